"""A small training run as a process of its own, to be killed, or shared by `torchrun`.

`python tests/small_run.py FOLDER '{"epochs": 3}'`: settings as JSON; weights in FOLDER/weights.pt.
"""

import json
import sys
from pathlib import Path

import torch
from test_training import Bars, network, settings

from lib.training import distributed, remember, train

if __name__ == "__main__":
    folder, changed = Path(sys.argv[1]), json.loads(sys.argv[2])
    torch.set_num_threads(1)
    distributed.join()
    trained = network()
    clips = Bars(22, 0), Bars(7, 1)
    kept = remember(trained, clips[0], settings(batch=8, whole=False))
    if distributed.rank() == distributed.world() - 1:
        torch.save((kept.features, kept.labels), folder / "kept.pt")
    log = train(trained, *clips, settings(**changed), folder, checkpoint_every=1)
    if distributed.rank() == 0:
        (folder / "log.json").write_text(json.dumps(log))
        torch.save(trained.state_dict(), folder / "weights.pt")
