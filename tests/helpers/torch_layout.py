"""PyTorch's layouts of a detector's parameters, and ours: channels first there, last here."""


def shape_there(path, shape):
    """Of a parameter of ours at `path`, such as ('layer_1', 'kernel')."""
    if path[-1] != "kernel":
        return shape
    if enlarges(path):
        return (shape[0], shape[3], 2, 2)
    return (shape[-1], shape[-2], *shape[:2]) if len(shape) == 4 else (shape[1], shape[0])


def ours(path, x, shape):
    """PyTorch's values of that parameter as an array of `shape`."""
    if path[-1] != "kernel":
        return x
    if enlarges(path):  # [D, width, 2, 2] -> [D, 2, 2, width]
        return x.transpose(0, 2, 3, 1)
    if path[-2] == "layer_1":  # of a region of 7 x 7, which was flattened with channels first
        return x.reshape(shape[1], -1, 7, 7).transpose(2, 3, 1, 0).reshape(shape)
    return x.transpose(2, 3, 1, 0) if len(shape) == 4 else x.reshape(shape[::-1]).T


def enlarges(path):
    """Whether it is a deconvolution's."""
    return path[-2].startswith("up") or "_up_" in path[-2]
