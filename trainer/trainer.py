"""`VRGRPOTrainer`: a run from its configuration to its policies; what the command line calls, and what replaces GRPOTrainer."""

from trainer.config import TrainConfig
from trainer.pretrain import pretrain
from trainer.run import Run
from trainer.setting import Setting, hima_ecom_setting
from trainer.stopping import Stop, Stopped
from trainer.train import train


class VRGRPOTrainer:
    def __init__(self, config: TrainConfig, *, setting: Setting | None = None, model=None, tokenizer=None, on_log=None) -> None:
        self.config, self.model, self.tokenizer, self.on_log = config, model, tokenizer, on_log
        self.setting = setting or hima_ecom_setting(config.data)

    def train(self, resume: bool = False) -> bool:
        with Stop() as stop:
            run = Run(self.config, self.setting, stop, resume=resume, on_log=self.on_log)
            try:
                run.begin(pretrain(run, model=self.model, tokenizer=self.tokenizer))
                return train(run)
            except Stopped:
                return False
            finally:
                run.close()
