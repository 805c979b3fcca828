"""Networks of other projects as models: files that spandrel knows, ONNX, TorchScript and torch.export programs."""
