"""The embedded data set scenes: objects on photographs, with exact masks, boxes and classes."""
