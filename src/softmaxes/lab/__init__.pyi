from softmaxes.files import InputError as InputError

from .comparison.compare import Repetition as Repetition
from .comparison.compare import compare as compare
from .comparison.compare import repeat as repeat
from .comparison.compare import train as train
from .comparison.compare import tune as tune
from .comparison.finished import Comparison as Comparison
from .cost.scale import Advice as Advice
from .cost.scale import Costs as Costs
from .cost.scale import advise as advise
from .cost.scale import scale as scale
from .data.dataset import Data as Data
from .data.sources import load_data as load_data
from .heads.entry import Entry as Entry
from .heads.entry import Knob as Knob
from .heads.growth import Growth as Growth
from .heads.registry import HEADS as HEADS
from .records import DataCard as DataCard
from .records import Run as Run
from .records import Study as Study
from .use.export import export as export
from .use.loading import Trained as Trained
from .use.loading import load as load

def main() -> int: ...
