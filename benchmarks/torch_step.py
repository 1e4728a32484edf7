"""The pre-training step of MoCo v3 and MoBY with RePre in PyTorch: what benchmarks/train_step.py compares ours with.

  python benchmarks/torch_step.py FOLDER     (benchmarks/torch_peer.py writes the folder and starts this)

FOLDER holds spec.json and arrays.safetensors: weights (the encoder's under timm's names), one batch uint8
[B, 2, H, W, C], and views float32 in 0..1 of the same shape, augmented, for a loss to compare. A line 'loss' on
standard input is answered by the loss of those views, 'step 5' by the seconds a step of five training steps on the
batch, which are waited for at their end, 'memory' by the largest number of bytes that they allocated on the GPU; all as
JSON on what was the standard output, where nothing else is printed.

timm's encoder with scaled_dot_product_attention, bfloat16 autocast where the config has that dtype, fused AdamW,
foreach moving average and, if asked for, torch.compile. The augmentation does no more than it must: each operation gets
just the images that it is drawn for, in batches.
"""

import contextlib
import json
import os
import sys
import time
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from torch.nn import functional

GREY = (0.299, 0.587, 0.114)


class Augmentation:
    """uint8 [N, H, W, 3] -> float32 in 0..1: repre_jax/data/photometric.py's operations and probabilities. Draws are
    made on the host, so that nobody waits for the device."""

    def __init__(self, settings, device):
        self.settings, self.device = settings, device
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self, images):
        count = len(images)
        x = images.permute(0, 3, 1, 2).float() / 255
        x = self._jitter(x, self._chosen(self.settings["jitter_probability"], count))
        x = self._on(x, self._chosen(self.settings["grey_probability"], count), lambda y: grey(y).expand(-1, 3, -1, -1))
        x = self._on(x, self._chosen(self.settings["blur_probability"], count), self._blur)
        solarized = self._chosen(self.settings["solarize_probability"], count)
        x = self._on(x, solarized, lambda y: torch.where(y >= 128 / 255, 1 - y, y))
        return self._on(x, self._chosen(self.settings["flip_probability"], count), lambda y: y.flip(3))

    def _chosen(self, probability, count):
        return (torch.rand(count, generator=self.generator) < probability).nonzero()[:, 0]

    def _uniform(self, count, low, high):
        drawn = torch.rand(count, 1, 1, 1, generator=self.generator) * (high - low) + low
        return drawn.to(self.device, non_blocking=True)

    def _on(self, x, rows, operation):
        if len(rows) == 0:
            return x
        rows = rows.to(self.device, non_blocking=True)
        return x.index_copy_(0, rows, operation(x[rows]))  # x is the augmentation's own

    def _jitter(self, x, rows):
        strengths = self.settings["jitter"]
        operations = [index for index, strength in enumerate(strengths) if strength > 0]
        if not operations or len(rows) == 0:
            return x
        order = torch.rand(len(rows), len(operations), generator=self.generator).argsort(1)
        for turn in range(len(operations)):
            for place, index in enumerate(operations):
                mine = rows[order[:, turn] == place]
                centre = 0.0 if index == 3 else 1.0
                low = -strengths[index] if index == 3 else max(0.0, centre - strengths[index])
                amount = self._uniform(len(mine), low, centre + strengths[index])
                x = self._on(x, mine, lambda y, index=index, amount=amount: OPERATIONS[index](y, amount))
        return x

    def _blur(self, x):
        low, high = self.settings["blur_sigma"]
        radius = max(1, round(3 * high))
        offsets = torch.arange(-radius, radius + 1, device=x.device)
        weights = torch.exp(-0.5 * (offsets / self._uniform(len(x), low, high)[:, 0, 0]) ** 2)
        weights = (weights / weights.sum(1, keepdim=True)).repeat_interleave(3, 0)
        images, channels, height, width = x.shape
        x = x.reshape(1, images * channels, height, width)
        x = functional.pad(x, (radius, radius, radius, radius), mode="replicate")
        x = functional.conv2d(x, weights[:, None, :, None], groups=images * channels)
        x = functional.conv2d(x, weights[:, None, None, :], groups=images * channels)
        return x.reshape(images, channels, height, width)


def grey(x):
    red, green, blue = x.unbind(1)
    return (GREY[0] * red + GREY[1] * green + GREY[2] * blue)[:, None]


def blend(x, other, factor):
    return torch.clamp(other * (1 - factor) + x * factor, 0, 1)


def hue(x, turns):
    value, smallest = x.amax(1), x.amin(1)
    chroma = value - smallest
    safe = torch.where(chroma > 0, chroma, 1.0)
    red, green, blue = x.unbind(1)
    sixth = torch.where(
        value == red,
        ((green - blue) / safe) % 6,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    turned = (torch.where(chroma > 0, sixth, 0.0) + 6 * turns[:, 0]) % 6
    steps = torch.stack([(number + turned) % 6 for number in (5, 3, 1)], 1)
    return value[:, None] - chroma[:, None] * torch.clamp(torch.minimum(steps, 4 - steps), 0, 1)


OPERATIONS = (
    lambda x, factor: torch.clamp(x * factor, 0, 1),
    lambda x, factor: blend(x, grey(x).mean((2, 3), keepdim=True), factor),
    lambda x, factor: blend(x, grey(x), factor),
    hue,
)


def head(x, weights, out_norm):
    """[B, V, D] -> [B, V, E]: Linear, BatchNorm of each view and ReLU a hidden layer, then Linear."""
    layers = sum(name.endswith(".weight") and name.startswith("fc") for name in weights)
    for number in range(1, layers + 1):
        x = functional.linear(x, weights[f"fc{number}.weight"], weights.get(f"fc{number}.bias"))
        if f"bn{number}.weight" in weights:
            x = batch_norm(x, weights[f"bn{number}.weight"], weights[f"bn{number}.bias"])
        x = functional.relu(x) if number < layers else x
    return batch_norm(x) if out_norm else x


def batch_norm(x, weight=None, bias=None):
    flat = x.float().flatten(1)
    views = x.shape[1]
    weight, bias = (None if one is None else one.repeat(views) for one in (weight, bias))
    return functional.batch_norm(flat, None, None, weight, bias, training=True, eps=1e-5).view(x.shape)


def decode(maps, weights, fusion_layers, patch):
    """Maps [N, C, h, w], shallow to deep -> pixels [N, H, W, channels]."""

    def lateral(level):
        kernel = weights.get(f"lateral_{level}.weight")
        x = maps[level - 1]
        return x if kernel is None else functional.conv2d(x, kernel[:, :, None, None], weights[f"lateral_{level}.bias"])

    x = lateral(len(maps))
    for block, level in enumerate(range(len(maps) - 1, 0, -1), start=1):
        size = maps[level - 1].shape[2:]
        if x.shape[2:] != size:
            x = functional.interpolate(x.float(), size=size, mode="bilinear")
        x = torch.cat([x, lateral(level).to(x.dtype)], 1)
        for layer in range(1, fusion_layers + 1):
            name = f"block_{block}_conv_{layer}"
            x = functional.relu(functional.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1))
    x = functional.linear(x.permute(0, 2, 3, 1), weights["to_pixels.weight"], weights["to_pixels.bias"])
    count, rows, columns, values = x.shape
    x = x.float().view(count, rows, columns, patch, patch, values // patch**2).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(count, rows * patch, columns * patch, -1)


class Step:
    def __init__(self, folder):
        self.spec = json.loads((folder / "spec.json").read_text())
        arrays = load_file(folder / "arrays.safetensors")
        cuda = torch.cuda.is_available()
        self.device = torch.device("cuda" if cuda else "cpu")
        arrays = {name: array.to(self.device) for name, array in arrays.items()}
        self.batch, self.views = arrays.pop("batch"), arrays.pop("views")
        self.encoder, self.target_encoder = (self._encoder(arrays, online) for online in (True, False))
        names = [name for name in arrays if not name.startswith("encoder.")]
        self.weights = {name: arrays[name].clone().requires_grad_() for name in names if not name.startswith("queue")}
        self.queues = [arrays[name].clone() for name in names if name.startswith("queue")]
        self.target_projector = {name: x.detach().clone() for name, x in self._part("projector").items()}
        trained = dict(self.encoder.named_parameters(prefix="encoder")) | self.weights
        for name in self.spec["frozen"]:
            trained.pop(name).requires_grad_(False)
        self.decoupled = [
            {
                "params": [x for name, x in trained.items() if self.spec["weight_decay"][name] == decay],
                "weight_decay": decay,
            }
            for decay in sorted(set(self.spec["weight_decay"].values()))
        ]
        self.decoupled = [group for group in self.decoupled if group["params"]]
        self.clipped = [x for name, x in trained.items() if not name.startswith("balance.")]
        self.optimizer = torch.optim.AdamW(
            self.decoupled, lr=self.spec["lr"], betas=self.spec["betas"], eps=self.spec["eps"], fused=True
        )
        online = [*self.encoder.parameters(), *self._part("projector").values()]
        self.moving = [*self.target_encoder.parameters(), *self.target_projector.values()], [x.detach() for x in online]
        self.augmentations = [Augmentation(settings, self.device) for settings in self.spec["augmentation"]]
        self.loss_of = torch.compile(self.losses) if self.spec["compile"] else self.losses
        self.target_of = torch.compile(self.target) if self.spec["compile"] else self.target
        self.mean, self.std = (torch.tensor(self.spec[name], device=self.device) for name in ("mean", "std"))
        self.pointer = 0

    def _encoder(self, arrays, online):
        own = {name.removeprefix("encoder."): x for name, x in arrays.items() if name.startswith("encoder.")}
        settings = self.spec["timm"]["arguments"] | ({"drop_path_rate": self.spec["drop_path"]} if online else {})
        model = timm.create_model(self.spec["timm"]["model"], **settings).to(self.device)
        model.load_state_dict(own)
        if self.device.type == "cuda":
            model = model.to(memory_format=torch.channels_last)
        return model.train() if online else model.eval().requires_grad_(False)

    def _part(self, part):
        return {name.removeprefix(f"{part}."): x for name, x in self.weights.items() if name.startswith(f"{part}.")}

    def _features(self, encoder, pixels):
        """Pixels [B, V, H, W, C] -> pooled [B, V, D] and the pyramid's maps [B * V, C, h, w]."""
        images = ((pixels - self.mean) / self.std).flatten(0, 1).permute(0, 3, 1, 2)
        last, maps = encoder.forward_intermediates(images, indices=self.spec["indices"])
        return encoder.forward_head(last).view(*pixels.shape[:2], -1), maps

    def _autocast(self):
        if self.spec["dtype"] == "bfloat16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return contextlib.nullcontext()

    @torch.no_grad()
    def target(self, pixels):
        with self._autocast():
            pooled, _ = self._features(self.target_encoder, pixels)
            return head(pooled, self.target_projector, self.spec["out_norm"]).float()

    def losses(self, pixels, target):
        spec = self.spec
        with self._autocast():
            pooled, maps = self._features(self.encoder, pixels)
            projected = head(pooled, self._part("projector"), spec["out_norm"])
            predicted = head(projected, self._part("predictor"), spec["out_norm"]).float()
            rebuilt = None
            if spec["decoder"]:
                first = [
                    level.view(*pixels.shape[:2], *level.shape[1:])[:, : spec["decoder"]["views"]].flatten(0, 1)
                    for level in maps
                ]
                rebuilt = decode(
                    first, self._part("decoder"), spec["decoder"]["fusion_layers"], spec["decoder"]["patch"]
                )
        contrastive = self._contrastive(functional.normalize(predicted, dim=-1), functional.normalize(target, dim=-1))
        if rebuilt is None:
            return contrastive
        wanted = pixels[:, : spec["decoder"]["views"]].flatten(0, 1)
        total = 0.0
        for name, loss in (("contrastive", contrastive), ("reconstruction", (rebuilt - wanted).abs().mean())):
            log_variance = self.weights[f"balance.{name}"]
            total = total + torch.exp(-log_variance) * loss + log_variance
        return total

    def _contrastive(self, queries, keys):
        temperature, total = self.spec["temperature"], 0.0
        for view in (0, 1):
            query, key = queries[:, view], keys[:, 1 - view]
            if self.queues:
                positive = (query * key).sum(1, keepdim=True)
                logits = torch.cat([positive, query @ self.queues[1 - view].T], 1) / temperature
                total = total + functional.cross_entropy(
                    logits, torch.zeros(len(query), dtype=torch.long, device=self.device)
                )
            else:
                labels = torch.arange(len(query), device=self.device)
                total = total + 2 * temperature * functional.cross_entropy(query @ key.T / temperature, labels)
        return total

    def first_loss(self):
        """In float32, without dropped paths, of the views that were given."""
        kept, self.spec["dtype"] = self.spec["dtype"], "float32"
        self.encoder.eval()
        with torch.no_grad():
            loss = float(self.losses(self.views, self.target(self.views)))
        self.encoder.train()
        self.spec["dtype"] = kept
        return loss

    def step(self):
        views = [augment(self.batch[:, view]) for view, augment in enumerate(self.augmentations)]
        pixels = torch.stack(views, 1).permute(0, 1, 3, 4, 2)
        target = self.target_of(pixels)
        self.loss_of(pixels, target).backward()
        if self.spec["clip_norm"]:
            torch.nn.utils.clip_grad_norm_([x for x in self.clipped if x.grad is not None], self.spec["clip_norm"])
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(*self.moving, 1 - self.spec["momentum"])
            for view, queue in enumerate(self.queues):
                queue[self.pointer : self.pointer + len(target)] = functional.normalize(target[:, view], dim=-1)
            self.pointer = (self.pointer + len(target)) % len(self.queues[0]) if self.queues else 0

    def timed(self, count):
        begun = time.perf_counter()
        for _ in range(count):
            self.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - begun) / count


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # for the loss to compare
    step = Step(Path(sys.argv[1]))
    cuda = step.device.type == "cuda"
    device = torch.cuda.get_device_name() if cuda else f"cpu, {torch.get_num_threads()} threads"
    print(
        json.dumps({"torch": torch.__version__, "timm": timm.__version__, "device": device}), file=answers, flush=True
    )
    for line in sys.stdin:
        what, *count = line.split()
        if what == "loss":
            answer = step.first_loss()
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
            if cuda:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
        elif what == "step":
            answer = step.timed(int(*count))
        else:
            answer = torch.cuda.max_memory_allocated() if cuda else None
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
