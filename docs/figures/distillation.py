"""What a teacher adds to a label. ``python docs/figures/distillation.py``."""

import lightning as L
import torch
from drawing import BLUE, GREY, ORANGE, save
from matplotlib.figure import Figure
from torch import nn

from ste_lightning.data import Digits
from ste_lightning.models import Classifier

L.seed_everything(0, verbose=False)
net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
data = Digits()
trainer = L.Trainer(
    max_epochs=6, logger=False, enable_checkpointing=False, enable_progress_bar=False,
    enable_model_summary=False,
)  # fmt: skip
trainer.fit(Classifier(net, classes=10), datamodule=data)
images, labels = next(iter(data.test_dataloader()))
probabilities = torch.softmax(net.eval()(images) / 2, 1).detach()
right = probabilities.argmax(1) == labels
unsure = torch.where(right, probabilities.amax(1), 1.0).argmin()

figure = Figure(figsize=(8, 2.7), layout="constrained")
picture, hard, soft = figure.subplots(1, 3, width_ratios=[1, 2, 2])
picture.imshow(images[unsure].squeeze(), cmap="Greys")
picture.axis("off")
hard.bar(range(10), torch.eye(10)[labels[unsure]], color=GREY)
hard.set_title(f"the label says: {int(labels[unsure])}", fontsize=9.5)
soft.bar(
    range(10),
    probabilities[unsure],
    color=[ORANGE if k == labels[unsure] else BLUE for k in range(10)],
)
soft.set_title("the teacher says: mostly, and what else it could be", fontsize=9.5)
for axes in (hard, soft):
    axes.set_xticks(range(10))
    axes.set_ylim(0, 1)
save(figure, "distillation")
