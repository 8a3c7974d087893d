"""What happens to a .tflite model before and while TVM's importer reads it."""
