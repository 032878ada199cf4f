"""The doubt ledger: what the silicon saw, on disk before it is sent. See docs/ledger.md.

`Ledger` is the one writer of a die, `LedgerReader` reads it, also from another process while it
is written. `rramhil.journal` puts a device's calls into it.
"""

from rramhil.ledger.reader import LedgerReader as LedgerReader
from rramhil.ledger.reader import Session as Session
from rramhil.ledger.reader import Verdict as Verdict
from rramhil.ledger.schema import HIGH_VOLTS as HIGH_VOLTS
from rramhil.ledger.schema import Entry as Entry
from rramhil.ledger.schema import LedgerError as LedgerError
from rramhil.ledger.schema import Row as Row
from rramhil.ledger.table import BYTES_PER_LINE as BYTES_PER_LINE
from rramhil.ledger.table import export as export
from rramhil.ledger.table import lines_of as lines_of
from rramhil.ledger.tally import Totals as Totals
from rramhil.ledger.tally import Wear as Wear
from rramhil.ledger.writer import Ledger as Ledger
