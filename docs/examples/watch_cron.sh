#!/bin/sh
# Fetch rain, then map every county. Copy this file to /data/landslides, make it executable, and add to `crontab -e`:
#
#   15 */3 * * *  /data/landslides/watch_cron.sh >> /data/landslides/watch.log 2>&1
#
# A run that is still at work is not disturbed: the next one ends at once. A county that fails is logged and mapped
# again three hours later; the others are not affected.
set -u
cd "${DATA:-/data/landslides}" || exit 1

exec 9> watch.lock
flock --nonblock 9 || { echo "$(date -u) the run before is still at work"; exit 0; }

echo "$(date -u) start"
./fetch_imerg.sh imerg || { echo "$(date -u) the rain could not be fetched"; exit 1; }
failed=0
for county in ${COUNTIES:-hongya emei}; do
    zoo risk watch "$county.tif" --weights "$county.json" --rain imerg --every 3 \
        --districts "$county.gpkg" --out "watch/$county" || { echo "$(date -u) $county failed"; failed=1; }
done
echo "$(date -u) done"
exit $failed
