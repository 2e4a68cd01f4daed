"""The errors that a user of keras_genre can cause, each with what to do about it.

Every one derives from `KerasGenreError`, so a caller can tell them from defects; their messages name the
file, flag or track concerned and are meant to be shown as they are.
"""


class KerasGenreError(Exception):
    """Base of all errors that this package raises on purpose."""


class ParameterError(KerasGenreError):
    """A parameter or flag has a value that cannot work."""


class FolderInUseError(KerasGenreError):
    """Another process is writing to the folder."""


class AudioError(KerasGenreError):
    """A file or byte string cannot be used as audio."""


class AudioNotFoundError(AudioError):
    """There is no such file."""


class NotAFileError(AudioError):
    """The path is a folder or a special file."""


class EmptyFileError(AudioError):
    """The file has no bytes."""


class NotAudioError(AudioError):
    """The bytes are of no audio format that can be read."""


class TruncatedAudioError(AudioError):
    """The file ends before the audio that its header announces."""


class NoSamplesError(AudioError):
    """The file is well formed and holds no samples."""


class NonFiniteAudioError(AudioError):
    """The samples contain NaN or infinity."""


class AudioTooShortError(AudioError):
    """The audio is shorter than what is needed of it."""


class AudioTooLongError(AudioError):
    """The audio is longer than the limit."""


class SilentAudioWarning(UserWarning):
    """All samples are zero: the features are defined, a genre is not to be expected."""


class DatasetError(KerasGenreError):
    """A folder or list of tracks cannot be used as a data set."""


class SplitError(KerasGenreError):
    """A division into training, validation and test clips cannot be used."""


class SplitLeakError(SplitError):
    """One artist group, or byte-identical audio, stands on two sides of a split."""


class StoreError(KerasGenreError):
    """A feature store is missing, incomplete, damaged or of other parameters than wanted."""


class RunError(KerasGenreError):
    """A run folder is missing, incomplete, damaged or of other parameters than wanted."""


class ServingError(KerasGenreError):
    """A model cannot be served."""


class SavedModelError(KerasGenreError):
    """A SavedModel is missing, damaged or not one that this package exports."""


class ExportError(KerasGenreError):
    """A model cannot be exported, or what was exported does not say what the model says."""
