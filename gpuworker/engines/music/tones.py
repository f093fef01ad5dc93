"""The pitched voices: closed forms in the time since a note began, so that any stretch of it can be made alone."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gpuworker.engines.music.score import Note

#: Cents and pan of each row that a note becomes.
_Unison = tuple[tuple[float, float], ...]
_ALONE: _Unison = ((0.0, 0.0),)


@dataclass(frozen=True, slots=True)
class Timbre:
    """The sound of an instrument."""

    shape: Callable[["Strike", "Timbre"], Tensor]
    #: RMS of a note at full velocity is about 0.1 before this.
    gain: float
    attack_s: float
    #: Time constant of a held note's decay at middle C; 0: it is sustained.
    decay_s: float
    release_s: float
    #: 0 … 1: how slowly the overtones fall off.
    bright: float = 0.6
    #: Time constant of the overtones' own decay, or rise when negative.
    sweep_s: float = 0.4
    #: Depth in cents.
    vibrato: float = 0.0
    unison: _Unison = _ALONE
    #: (ratio to the fundamental, amplitude, decay relative to `decay_s`).
    partials: tuple[tuple[float, float, float], ...] = ()
    #: Hz of the resonances, for `_sung`.
    formants: tuple[float, ...] = ()
    drive: float = 0.0
    send: float = 1.0
    echo: float = 0.0

    @property
    def tail_s(self) -> float:
        """Seconds that it sounds after the key is released."""
        return 5.0 * self.release_s


@dataclass(slots=True)
class Strike:
    """Notes of one voice over one block: tensors of shape (rows, frames) or (rows, 1)."""

    #: Seconds since each note began, not below 0, float32.
    t: Tensor
    #: Cycles of the fundamental since then, float64: a long note must not lose its pitch to rounding.
    cycles: Tensor
    #: Hz, float32.
    hz: Tensor
    velocity: Tensor
    dur: Tensor
    #: White noise, the same for every row, (frames,).
    noise: Tensor
    #: A note begins in this stretch, or began shortly before it.
    rises: bool
    #: A note is released before the end of this stretch.
    falls: bool
    _vibrato: Tensor | None = field(default=None)

    def angle(self, ratio: float = 1.0) -> Tensor:
        """Radians of the partial at `ratio`, wrapped to one turn."""
        turns = self.cycles if self._vibrato is None else self.cycles + self._vibrato
        return torch.frac(turns if ratio == 1.0 else turns * ratio).float() * (2 * math.pi)

    def bend(self, cents: float, rate_hz: float = 5.2) -> None:
        """Vibrato that sets in after the attack."""
        depth = (2 ** (cents / 1200) - 1) / (2 * math.pi * rate_hz)
        swell = (self.t * 2.2 - 0.35).clamp(0.0, 1.0)
        self._vibrato = (self.hz * depth * swell * (1 - torch.cos(self.t * (2 * math.pi * rate_hz)))).double()


def envelope(strike: Strike, voice: Timbre) -> Tensor:
    """Attack, decay, release; exactly 0 before the note and after its tail, without a corner that clicks."""
    shape = strike.velocity**1.3
    if strike.rises:
        rise = (strike.t / voice.attack_s).clamp(max=1.0)
        shape = shape * (rise * rise * (3.0 - 2.0 * rise))
    if strike.falls:
        late = (strike.t - strike.dur).clamp(min=0.0)
        shape = shape * torch.exp(late * (-1.0 / voice.release_s))
        gone = ((voice.tail_s - late) / (0.5 * voice.tail_s)).clamp(0.0, 1.0)
        shape = shape * (gone * gone)
    if voice.decay_s:
        shape = shape * torch.exp(strike.t * (-1.0 / _decay(strike, voice)))
    return shape


def _decay(strike: Strike, voice: Timbre) -> Tensor:
    return voice.decay_s * (262.0 / strike.hz) ** 0.5


def _roof(hz: Tensor, bright: float) -> Tensor:
    """The largest ratio between overtones without audible aliasing."""
    return bright * torch.exp(hz * (-6.9 / 24_000))


def _overtones(angle: Tensor, ratio: Tensor) -> Tensor:
    """Sum over n of ratio**n sin(n angle), in closed form, scaled to the same power whatever `ratio`."""
    quiet = ratio * ratio
    return torch.sin(angle) * torch.sqrt(1 - quiet) / (1 + quiet - 2 * ratio * torch.cos(angle))


def _plucked(strike: Strike, voice: Timbre) -> Tensor:
    """A string: bright at first; plucking near the bridge takes out some overtones."""
    ratio = (
        _roof(strike.hz, voice.bright)
        * (0.45 + 0.55 * torch.exp(-strike.t / voice.sweep_s))
        * (0.8 + 0.2 * strike.velocity)
    )
    angle = strike.angle()
    return _overtones(angle, ratio) - 0.6 * _overtones(angle + 2 * math.pi * 0.23, ratio)


def _bowed(strike: Strike, voice: Timbre) -> Tensor:
    """Bow, reed, lips or filter: the overtones come in with the attack (`sweep_s` < 0) or die away."""
    if voice.vibrato:
        strike.bend(voice.vibrato)
    moving = torch.exp(strike.t * (-1.0 / abs(voice.sweep_s)))
    amount = 1.0 - 0.4 * moving if voice.sweep_s < 0 else 0.6 + 0.4 * moving
    ratio = _roof(strike.hz, voice.bright) * amount * (0.85 + 0.15 * strike.velocity)
    out = _overtones(strike.angle(), ratio)
    return torch.tanh(out * voice.drive) if voice.drive else out


def _struck(strike: Strike, voice: Timbre) -> Tensor:
    """Partials that decay each in its own time: piano, bells, bars. Softer strokes are duller."""
    base = _decay(strike, voice)
    out = torch.zeros_like(strike.t)
    for ratio, amplitude, life in voice.partials:
        dull = torch.exp((strike.velocity - 1.0) * (0.5 * math.log2(ratio + 1)))
        audible = (strike.hz * ratio < 16_000).float()
        fall = torch.exp(strike.t * (1.0 - 1.0 / life) / base)
        out = out + torch.sin(strike.angle(ratio)) * fall * (amplitude * dull * audible)
    thump = strike.noise * torch.exp(strike.t * -180.0) * voice.drive
    return out + thump


def _tine(strike: Strike, voice: Timbre) -> Tensor:
    """Electric piano: a fork whose bark follows the touch."""
    angle = strike.angle()
    bark = 0.25 + 1.4 * voice.bright * strike.velocity**2 * torch.exp(strike.t / -0.35)
    tine = torch.sin(strike.angle(14.0)) * torch.exp(strike.t * -14.0) * (0.1 * (strike.hz < 1100))
    return torch.sin(angle + bark * torch.sin(angle)) + tine


def _sung(strike: Strike, voice: Timbre) -> Tensor:
    """Overtones weighted by resonances: voices, woodwind."""
    if voice.vibrato:
        strike.bend(voice.vibrato, 4.9)
    angle = strike.angle()
    turn = 2 * torch.cos(angle)
    before, now = torch.zeros_like(angle), torch.sin(angle)
    weights = [_weight(strike.hz * n, n, voice) for n in range(1, 11)]
    power = torch.sqrt(torch.stack(weights).square().sum(0))
    out = torch.zeros_like(angle)
    for weight in weights:
        out = out + now * (weight / power)
        before, now = now, turn * now - before
    breath = strike.noise * (voice.drive * (0.3 + torch.exp(strike.t * -14.0)))
    return out * 1.2 + breath


def _weight(hz: Tensor, n: int, voice: Timbre) -> Tensor:
    resonance = torch.full_like(hz, 0.06)
    for index, formant in enumerate(voice.formants):
        width = 0.12 * formant + 90
        resonance = resonance + torch.exp(-(((hz - formant) / width) ** 2)) / (1 + 0.8 * index)
    fall = voice.bright ** (n - 1) if voice.bright < 1 else 1.0
    return (resonance * fall + (0.35 if n == 1 else 0.0)) * (hz < 16_000)


def _drawbars(strike: Strike, voice: Timbre) -> Tensor:
    """Organ: sines, and a slow rotor."""
    rotor = 1.0 + 0.08 * torch.sin(strike.t * (2 * math.pi * 5.6))
    out = torch.zeros_like(strike.t)
    for ratio, amplitude, _ in voice.partials:
        out = out + torch.sin(strike.angle(ratio)) * (amplitude * (strike.hz * ratio < 16_000))
    return out * rotor


def _squared(strike: Strike, voice: Timbre) -> Tensor:
    if voice.vibrato:
        strike.bend(voice.vibrato, 6.0)
    return torch.tanh(torch.sin(strike.angle()) * voice.drive)


def _deep(strike: Strike, voice: Timbre) -> Tensor:
    """A sine that drops into its note, warmed."""
    drop = 2 * math.pi * 0.9 * (1 - torch.exp(strike.t * -28.0))
    return torch.tanh(torch.sin(strike.angle() + drop) * voice.drive)


_PIANO = tuple(
    (n * math.sqrt(1 + 0.0004 * n * n), n**-1.15 * (0.55 if n == 7 else 1.0), 1 / (1 + 0.3 * (n - 1)))
    for n in range(1, 9)
)
_ENSEMBLE: _Unison = ((-7.0, -0.75), (0.0, 0.05), (6.0, 0.7))
_PAIR: _Unison = ((-4.0, -0.7), (4.5, 0.7))
_DETUNED: _Unison = ((-9.0, -0.5), (8.0, 0.5))

TIMBRES: dict[str, Timbre] = {
    "piano": Timbre(_struck, 0.2, 0.003, 1.5, 0.16, partials=_PIANO, drive=0.12),
    "epiano": Timbre(_tine, 0.17, 0.004, 1.8, 0.14, bright=0.8, echo=0.3, unison=((-1.5, -0.3), (1.5, 0.3))),
    "guitar": Timbre(_plucked, 0.16, 0.0025, 1.1, 0.1, bright=0.9, sweep_s=0.25),
    "eguitar": Timbre(_bowed, 0.075, 0.004, 3.0, 0.07, bright=0.82, sweep_s=1.5, drive=2.6, unison=_DETUNED, send=0.6),
    "strings": Timbre(_bowed, 0.085, 0.11, 0.0, 0.22, bright=0.82, sweep_s=-0.3, unison=_ENSEMBLE, send=1.2),
    "violin": Timbre(_bowed, 0.13, 0.06, 0.0, 0.14, bright=0.86, sweep_s=-0.15, vibrato=16, send=1.3),
    "cello": Timbre(_bowed, 0.14, 0.07, 0.0, 0.16, bright=0.84, sweep_s=-0.2, vibrato=13, send=1.2),
    "flute": Timbre(_sung, 0.14, 0.05, 0.0, 0.1, bright=0.45, vibrato=12, formants=(600.0,), drive=0.05, send=1.3,
        echo=0.4),
    "clarinet": Timbre(_sung, 0.13, 0.035, 0.0, 0.09, bright=0.8, vibrato=5, formants=(1400.0, 2600.0), drive=0.015,
        send=1.2),
    "brass": Timbre(_bowed, 0.1, 0.06, 0.0, 0.14, bright=0.88, sweep_s=-0.12, vibrato=4, unison=_PAIR, send=1.2),
    "trumpet": Timbre(_bowed, 0.12, 0.03, 0.0, 0.09, bright=0.9, sweep_s=-0.06, vibrato=9, send=1.1),
    "sax": Timbre(_bowed, 0.12, 0.03, 0.0, 0.09, bright=0.84, sweep_s=-0.08, vibrato=12, drive=1.3, send=1.1, echo=0.2),
    "organ": Timbre(_drawbars, 0.07, 0.012, 0.0, 0.06,
        partials=((0.5, 0.5, 1), (1, 1, 1), (1.5, 0.35, 1), (2, 0.6, 1), (3, 0.35, 1), (4, 0.25, 1))),
    "accordion": Timbre(_bowed, 0.1, 0.04, 0.0, 0.08, bright=0.87, sweep_s=-0.1, unison=_DETUNED),
    "choir": Timbre(_sung, 0.1, 0.16, 0.0, 0.3, bright=0.93, vibrato=9, formants=(620.0, 1100.0, 2700.0), drive=0.008,
        unison=_PAIR, send=1.5),
    "bells": Timbre(_struck, 0.13, 0.002, 1.3, 0.5,
        partials=((1, 1, 1), (2.0, 0.5, 0.7), (2.76, 0.35, 0.5), (5.4, 0.2, 0.25)), send=1.4, echo=0.6),
    "marimba": Timbre(_struck, 0.22, 0.002, 0.36, 0.14, partials=((1, 1, 1), (3.93, 0.3, 0.3), (9.2, 0.1, 0.12)),
        drive=0.06, echo=0.3),
    "harp": Timbre(_plucked, 0.17, 0.0025, 1.0, 0.3, bright=0.8, sweep_s=0.2, send=1.3, echo=0.3),
    "musicbox": Timbre(_struck, 0.15, 0.0015, 0.9, 0.4, partials=((1, 1, 1), (3.0, 0.25, 0.5), (6.3, 0.2, 0.2)),
        send=1.3, echo=0.4),
    "lead": Timbre(_bowed, 0.12, 0.012, 0.0, 0.09, bright=0.8, sweep_s=0.5, vibrato=9, unison=_DETUNED, echo=1.0),
    "warm": Timbre(_bowed, 0.09, 0.3, 0.0, 0.4, bright=0.62, sweep_s=-1.2, unison=_ENSEMBLE, send=1.3),
    "glass": Timbre(_bowed, 0.09, 0.22, 0.0, 0.5, bright=0.45, sweep_s=1.5, vibrato=5, unison=_PAIR, send=1.6,
        echo=0.5),
    "pluck": Timbre(_bowed, 0.2, 0.003, 0.28, 0.12, bright=0.92, sweep_s=0.12, unison=_DETUNED, echo=1.0),
    "chip": Timbre(_squared, 0.08, 0.003, 1.6, 0.03, drive=3.0, vibrato=8, send=0.5, echo=0.6),
    "upright": Timbre(_plucked, 0.22, 0.006, 0.9, 0.07, bright=0.62, sweep_s=0.15, send=0.3),
    "fingered": Timbre(_bowed, 0.2, 0.006, 1.1, 0.06, bright=0.74, sweep_s=0.2, send=0.15),
    "synthbass": Timbre(_bowed, 0.18, 0.005, 2.2, 0.05, bright=0.85, sweep_s=0.16, drive=1.4, send=0.1),
    "sub": Timbre(_deep, 0.19, 0.006, 1.6, 0.09, drive=1.5, send=0.05),
}  # fmt: skip


def strike(
    notes: Sequence[Note], voice: Timbre, seconds: Tensor, span_s: tuple[float, float], noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Left and right of the notes of one voice at `seconds`, each (frames,) float32.

    `seconds` is float64, (frames,), the times of the stretch `span_s`. A note takes as many rows of memory as the
    voice has in unison.
    """
    rows = [
        (
            note.start_s,
            note.dur_s,
            440.0 * 2 ** ((note.pitch - 69 + cents / 100) / 12),
            note.velocity,
            note.level,
            note.pan + pan,
        )
        for note in notes
        for cents, pan in voice.unison
    ]
    table = torch.tensor(rows, dtype=torch.float64).to(seconds.device)[:, :, None]
    start, dur, hz, velocity, level, pan = table.unbind(1)
    since = (seconds[None] - start).clamp(min=0.0)
    # Two rows of one note start at different points of their cycle, or they would beat in step.
    shifts = [index * 0.37 % 1.0 for _ in notes for index in range(len(voice.unison))]
    cycles = since * hz + torch.tensor(shifts, dtype=torch.float64).to(seconds.device)[:, None]
    rises = any(note.start_s + voice.attack_s > span_s[0] for note in notes)
    falls = any(note.start_s + note.dur_s < span_s[1] for note in notes)
    body = Strike(since.float(), cycles, hz.float(), velocity.float(), dur.float(), noise, rises, falls)
    sound = voice.shape(body, voice) * envelope(body, voice)
    loud = level.float() * (voice.gain / math.sqrt(2 * len(voice.unison)))
    side = pan.float().clamp(-1.0, 1.0)
    return (sound * (loud * torch.sqrt(1 - side))).sum(0), (sound * (loud * torch.sqrt(1 + side))).sum(0)
