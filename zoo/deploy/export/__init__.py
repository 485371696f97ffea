"""A model as one file for programs that know nothing of zoo: ONNX, OpenVINO or torch.export."""
