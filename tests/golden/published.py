"""The tensors' names in the files that frameworks publish."""

import numpy as np


def as_framework(layout, online, target):
    """A checkpoint as the framework's code writes it, flattened as files.read does."""
    head, number = np.zeros((3, 24), np.float32), np.array(5)
    if layout == "MoCo v3":
        arrays = {f"state_dict.module.base_encoder.{k}": v for k, v in online.items()}
        arrays |= {f"state_dict.module.momentum_encoder.{k}": v for k, v in target.items()}
        arrays |= {f"state_dict.module.{e}_encoder.head.0.weight": head for e in ("base", "momentum")}
        arrays |= {f"state_dict.module.{e}_encoder.head.1.num_batches_tracked": number for e in ("base", "momentum")}
        return arrays | {"state_dict.module.predictor.0.weight": head, "optimizer.state.0.exp_avg": head}
    if layout == "DINO":
        arrays = {f"student.module.backbone.{k}": v for k, v in online.items()}
        arrays |= {f"teacher.backbone.{k}": v for k, v in target.items()}
        arrays |= {"student.module.head.mlp.0.weight": head, "teacher.head.last_layer.weight_g": head}
        return arrays | {"dino_loss.center": head, "optimizer.state.0.step": number}
    if layout == "MoCo v2":  # the projector is the encoder's last layers
        arrays = {f"state_dict.module.encoder_q.{k}": v for k, v in online.items()}
        arrays |= {f"state_dict.module.encoder_k.{k}": v for k, v in target.items()}
        arrays |= {f"state_dict.module.encoder_{e}.fc.{n}.weight": head for e in "qk" for n in (0, 2)}
        return arrays | {"state_dict.module.queue": head, "state_dict.module.queue_ptr": number}
    if layout == "SimSiam":  # one network
        arrays = {f"state_dict.module.encoder.{k}": v for k, v in online.items()}
        arrays |= {f"state_dict.module.{part}.0.weight": head for part in ("encoder.fc", "predictor")}
        return arrays | {"optimizer.state.0.momentum_buffer": head}
    arrays = {f"model.encoder.{k}": v for k, v in online.items()} | {
        f"model.encoder_k.{k}": v for k, v in target.items()
    }
    arrays |= {f"model.{part}.linear_out.weight": head for part in ("projector", "projector_k", "predictor")}
    return arrays | {"model.queue1": head, "model.queue2": head, "model.queue_ptr": number}


def moby_swin(weights):
    """MoBY's Swin: merging at the end of a stage, index buffers among the tensors."""
    renamed = {}
    for name, array in weights.items():
        parts = name.split(".")
        if "downsample" in parts:
            parts[1] = str(int(parts[1]) - 1)
        renamed[".".join(parts)] = array
    buffers = {
        "layers.0.blocks.0.attn.relative_position_index": np.zeros((9, 9), np.int64),
        "layers.0.blocks.1.attn_mask": np.zeros((4, 9, 9), np.float32),
    }
    return renamed | buffers
