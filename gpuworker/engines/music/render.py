"""Renders a piece in blocks on a grid from frame 0, so that a block is the same bit by bit whichever came first.

A block is made from its own notes and the sends of the `PREROLL_BLOCKS` before it, which a late start makes again.
"""

import math
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuworker.engines.music import kit, mix
from gpuworker.engines.music.form import RATE_HZ, Form
from gpuworker.engines.music.mood import Plan
from gpuworker.engines.music.score import Hit, Note, Part, Scores
from gpuworker.engines.music.tones import TIMBRES, Timbre, strike

BLOCK = 24_000
#: Notes are computed where they sound, in steps of this many frames.
_GRAIN = 3_000
#: White noise before it repeats: longer than an ear remembers.
_NOISE_BLOCKS = 11


class Studio:
    """Shared by all pieces on one device; constant after construction. About 12 MB."""

    def __init__(self, device: torch.device) -> None:
        with one_thread():
            self.on_gpu = device.type != "cpu"
            #: Rows computed together: as many as fit a CPU's cache, or as fill a GPU.
            self.max_rows = 64 if self.on_gpu else 4
            self.drums = kit.build(RATE_HZ, device)
            self.rooms = {hall: mix.Room(BLOCK, RATE_HZ, device, hall=hall) for hall in (False, True)}
            self.loudness_meter = mix.LoudnessMeter(BLOCK, RATE_HZ, device)
            self.steps = torch.arange(BLOCK, dtype=torch.float64).to(device)
            noise = torch.randn(_NOISE_BLOCKS, BLOCK, generator=torch.Generator().manual_seed(11)) * 0.7
            self.noise = noise.to(device)
            self.silence = torch.zeros(2, BLOCK, device=device)


@contextmanager
def one_thread() -> Iterator[None]:
    """One intra-op thread inside, the host's number again outside.

    The number of threads decides the order of a sum, and so the last bit of its result: measured on the drums, which
    differ between one thread and two. Only the thread that drives the engine may compute while this is open.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)


class Renderer:
    """One piece, block after block from any block. Memory does not depend on the piece's length."""

    def __init__(self, studio: Studio, plan: Plan, form: Form) -> None:
        self._studio = studio
        self._plan = plan
        self._form = form
        self._scores = Scores(plan, form, RATE_HZ)
        self._room = studio.rooms[plan.style.hall]
        self._echo_frames = round(_echo_beats(plan) * form.beat_s * RATE_HZ)
        # The newest last, at most PREROLL_BLOCKS + 1 of each.
        self._buses: list[mix.Bus] = []
        self._spectra: list[Tensor] = []
        self._powers: list[float] = []

    def blocks(self, first_block: int) -> Generator[tuple[int, NDArray[np.float32]], None, None]:
        """Yield (first frame, (frames, 2) float32) from `first_block` to the end; the last is cut to the length."""
        end_block = math.ceil(self._form.frames / BLOCK)
        start_block = max(0, first_block - mix.PREROLL_BLOCKS) if first_block < end_block else end_block
        for index in range(start_block, end_block):
            with one_thread():
                self._add(index)
                if index < first_block:
                    continue
                pcm = self._master(index)[:, : self._form.frames - index * BLOCK].T.contiguous().cpu().numpy()
            yield index * BLOCK, pcm

    def _add(self, index: int) -> None:
        """Play block `index` into the buses."""
        bus = self._play(index)
        before = self._buses[-1].send if self._buses else self._studio.silence[0]
        keep = mix.PREROLL_BLOCKS
        self._spectra = [*self._spectra[-keep:], self._room.spectrum(before, bus.send)]
        self._powers = [*self._powers[-keep:], self._studio.loudness_meter.power(bus.dry)]
        self._buses = [*self._buses[-keep:], bus]

    def _master(self, index: int) -> Tensor:
        studio, style = self._studio, self._plan.style
        spectra = self._spectra[: -mix.REVERB_BLOCKS - 1 : -1]
        nothing = torch.zeros_like(spectra[0])
        wet = self._room.wet(spectra + [nothing] * (mix.REVERB_BLOCKS - len(spectra)))
        out = self._buses[-1].dry + wet * style.wet
        if style.echo:
            past = [bus.echo for bus in self._buses[-mix.REVERB_BLOCKS - 1 :]]
            past = [studio.silence] * (mix.REVERB_BLOCKS + 1 - len(past)) + past
            out = out + mix.echoes(torch.cat(past, 1), BLOCK, self._echo_frames) * style.echo
        span = mix.PREROLL_BLOCKS
        now = mix.level(self._powers[-span:])
        before = mix.level(self._powers[-span - 1 : -1]) if index else now
        ramp = (studio.steps / BLOCK).float() * (now - before) + before
        return mix.soften(out * ramp) * self._fade(index)

    def _fade(self, index: int) -> Tensor:
        """A raised cosine down to 0 at the last frame."""
        hold_s = self._form.seconds - self._form.end_s
        length = max(1.0, min(2.6, 0.65 * hold_s) * RATE_HZ)
        left = (self._form.frames - 1 - index * BLOCK) - self._studio.steps
        return torch.sin((left / length).clamp(0.0, 1.0).float() * (math.pi / 2)).square()

    def _play(self, index: int) -> mix.Bus:
        start_s, end_s = index * BLOCK / RATE_HZ, (index + 1) * BLOCK / RATE_HZ
        part = self._scores.between(start_s, end_s)
        dry, echo = torch.zeros_like(self._studio.silence), torch.zeros_like(self._studio.silence)
        send = torch.zeros_like(dry[0])
        seconds = (self._studio.steps + index * BLOCK) / RATE_HZ
        noise = self._studio.noise[index % _NOISE_BLOCKS]
        for voice, notes in self._batches(_sounding(part, start_s, end_s)):
            first, last = _stretch(voice, notes, start_s)
            span_s = (start_s + first / RATE_HZ, start_s + last / RATE_HZ)
            left, right = strike(notes, voice, seconds[first:last], span_s, noise[first:last])
            dry[0, first:last] += left
            dry[1, first:last] += right
            send[first:last] += (left + right) * voice.send
            if voice.echo and self._plan.style.echo:
                echo[0, first:last] += left * voice.echo
                echo[1, first:last] += right * voice.echo
        if self._plan.style.pump:
            duck = self._duck(part, index)
            dry, send, echo = dry * duck, send * duck, echo * duck
        self._drum(part, index, dry, send)
        return mix.Bus(dry, send, echo)

    def _batches(self, groups: dict[str, list[Note]]) -> Iterator[tuple[Timbre, list[Note]]]:
        """The notes in the order of their voices, at most as many rows at a time as suit the device."""
        for name, notes in groups.items():
            voice = TIMBRES[name]
            size = max(1, self._studio.max_rows // len(voice.unison))
            for first in range(0, len(notes), size):
                yield voice, notes[first : first + size]

    def _duck(self, part: Part, index: int) -> Tensor:
        """Gain of the other players under the kick: a dip with an edge of a few milliseconds, gone in half a second."""
        gain = torch.ones_like(self._studio.silence[0])
        for hit in part.hits:
            since = index * BLOCK - hit.frame
            if hit.sound == "kick" and -BLOCK < since < BLOCK:
                t = ((self._studio.steps + since).clamp(min=0.0) / RATE_HZ).float()
                edge = (t / 0.008).clamp(max=1.0)
                tail = ((0.5 - t) / 0.1).clamp(0.0, 1.0)
                gain = gain * (1 - self._plan.style.pump * edge * torch.exp(t / -0.11) * tail)
        return gain

    def _drum(self, part: Part, index: int, dry: Tensor, send: Tensor) -> None:
        """Add the drum strokes that sound in block `index`, in place."""
        for hit in part.hits:
            sample = self._studio.drums[hit.sound][hit.take]
            start = hit.frame - index * BLOCK
            first, last = max(0, start), min(BLOCK, start + sample.numel())
            if first < last:
                _add_hit(hit, sample[first - start : last - start], dry[:, first:last], send[first:last])


def _add_hit(hit: Hit, sound: Tensor, dry: Tensor, send: Tensor) -> None:
    drum = kit.DRUMS[hit.sound]
    loud = hit.velocity**1.2
    dry[0] += sound * (loud * math.sqrt(1 - drum.pan))
    dry[1] += sound * (loud * math.sqrt(1 + drum.pan))
    send += sound * (2 * loud * drum.send)


def _sounding(part: Part, start_s: float, end_s: float) -> dict[str, list[Note]]:
    """The notes that sound in [start_s, end_s) by voice, in the order of the score."""
    groups: dict[str, list[Note]] = {}
    for note in part.notes:
        if note.start_s < end_s and note.start_s + note.dur_s + TIMBRES[note.voice].tail_s > start_s:
            groups.setdefault(note.voice, []).append(note)
    return groups


def _stretch(voice: Timbre, notes: list[Note], start_s: float) -> tuple[int, int]:
    """The frames of the block at `start_s` in which `notes` sound, in whole `_GRAIN`s."""
    first_s = min(note.start_s for note in notes) - start_s
    last_s = max(note.start_s + note.dur_s for note in notes) + voice.tail_s - start_s
    first = max(0, math.floor(first_s * RATE_HZ / _GRAIN) * _GRAIN)
    return first, min(BLOCK, max(first + _GRAIN, math.ceil(last_s * RATE_HZ / _GRAIN) * _GRAIN))


def _echo_beats(plan: Plan) -> float:
    return 0.5 if plan.bpm < 80 else 0.75 if plan.beats == 4 else 1.0
