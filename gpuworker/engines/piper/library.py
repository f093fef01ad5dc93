"""The loaded voices of an engine, and the front ends of their languages."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from gpuworker.engine import EngineJob, Pcm
from gpuworker.engines.piper.encoding import encode
from gpuworker.engines.piper.network import Manner, Network, Prior
from gpuworker.engines.piper.voices import Folder, PiperVoice
from gpuworker.engines.reading.front_ends import INSTALL_ESPEAK, FrontEnds
from gpuworker.engines.reading.reader import Reader, Reading
from gpuworker.engines.text.coverage import Span
from gpuworker.engines.text.parts import Part


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence whose length is known, before its audio."""

    network: Network
    prior: Prior
    #: In order: the frame of the sentence at which a word begins, and its (start, end) in the original text.
    words: list[tuple[int, Span]]

    @property
    def frames(self) -> int:
        """Length of its audio."""
        return self.prior.frames

    def windows(self, skip: int) -> Iterator[tuple[int, Pcm]]:
        """(First frame, audio) of each window, from the one on that holds frame `skip`. Raises OutOfMemory."""
        return self.network.windows(self.prior, skip)


@dataclass(frozen=True, slots=True)
class Speaker:
    """One speaker of a loaded voice, for one job."""

    voice: PiperVoice
    network: Network
    reader: Reader
    manner: Manner

    @property
    def language(self) -> str:
        """BCP 47 in lower case; espeak-ng's tag where it has one (`cmn`): texts are spelled by its rules."""
        return (self.voice.espeak or self.voice.language).casefold()

    def read(self, part: Part) -> Reading:
        """The phonemes of a part. Raises SpeakerFailed."""
        return self.reader.read(part)

    def pieces(self, reading: Reading) -> list[Reading]:
        """The whole reading: its audio is made in windows, so a long one waits for nothing."""
        return [reading]

    def sentence(self, reading: Reading, number: int) -> Sentence | None:
        """A part, sentence `number` of its job; None if nothing of it has a sound. Raises OutOfMemory."""
        if not any(symbol.isalnum() for symbol in reading.symbols):
            return None
        encoding = encode(reading.symbols, self.voice.ids)
        prior = self.network.prior(encoding.ids, number, self.manner)
        last = prior.frames - 1
        words = [(min(prior.starts[encoding.places[symbol]], last), span) for symbol, span in reading.words]
        return Sentence(self.network, prior, words)


class Library:
    """Owns sessions and helper processes from `start` to `stop`."""

    def __init__(self, folder: Folder, max_loaded: int) -> None:
        """Voices in `folder` whose language has no front end here are moved to its unusable ones."""
        self._max_loaded = max(1, max_loaded)
        self._device = "cpu"
        self._front_ends = FrontEnds()
        #: By name and digest of the files; the one that was used last is the last.
        self._networks: OrderedDict[tuple[str, str], Network] = OrderedDict()
        for voice in list(folder.voices.values()):
            if not self._front_ends.can_read(voice.espeak):
                del folder.voices[voice.id]
                folder.unusable[voice.id] = (
                    f"{voice.id} speaks {voice.language}, whose phonemes need espeak-ng: {INSTALL_ESPEAK}"
                )
        self.licences = self._front_ends.licences({voice.espeak for voice in folder.voices.values()})

    @property
    def loaded(self) -> list[str]:
        """Ids of the voices in memory, the one that was used last at the end."""
        return [voice for voice, _ in self._networks]

    @property
    def helper_pids(self) -> list[int]:
        """The helper processes of front ends that run."""
        return self._front_ends.pids

    def start(self, device: str) -> None:
        """Load voices to `device` from now on."""
        self._device = device

    def stop(self) -> None:
        """Free all voices and end the helper processes. Idempotent."""
        self._networks.clear()
        self._front_ends.stop()

    def load(self, voice: PiperVoice) -> Network:
        """The network of a voice, loaded as the front end of its language. Raises Unusable, SpeakerFailed."""
        self._front_ends.open(voice.espeak)
        network = self._networks.pop((voice.id, voice.sha256), None)
        if network is None:
            while len(self._networks) >= self._max_loaded:
                self._networks.popitem(last=False)
            voice.check_unchanged()
            network = Network(voice.path, self._device)
        self._networks[voice.id, voice.sha256] = network
        return network

    def open(self, voice: PiperVoice, speaker: str, job: EngineJob) -> Speaker:
        """A speaker of a voice, "" for the first, that speaks as a valid job says. Raises Unusable, SpeakerFailed."""
        manner = Manner(
            speaker=voice.speakers[speaker] if speaker else 0,
            speed=float(job.params["speed"]) / voice.pace,
            variation=float(job.params["variation"]),
            rhythm=float(job.params["rhythm"]),
            seed=job.seed,
        )
        network = self.load(voice)
        return Speaker(voice, network, Reader(self._front_ends.open(voice.espeak), voice.ids), manner)
