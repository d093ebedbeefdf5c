"""What pages take for granted: a trained network and a sample; a module, its data."""

MIGRATE = """
import torch
from torch import nn
{imported}

class Model(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()
        self.middle, self.head = nn.Conv2d(4, 4, 3), nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.middle(self.relu(self.bn(self.conv(x)))).flatten(1))

    def training_step(self, batch, index):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

class Data(L.LightningDataModule):
    def train_dataloader(self):
        rows = torch.utils.data.TensorDataset(sample, torch.arange(16) % 10)
        return torch.utils.data.DataLoader(rows, 8)

sample = torch.rand(16, 1, 8, 8)
model, data = Model(), Data()
"""

BEFORE = {
    "deploy.md": """
import torch
from torch import nn
from ste_lightning.convert import quantize_
torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
quantize_(model, [{"match": "*", "weight": "sign", "input": "sign"}])
model.eval()
x = torch.randn(2, 3, 224, 224)
""",
    "migrate.md": MIGRATE.format(imported="import lightning as L"),
}
