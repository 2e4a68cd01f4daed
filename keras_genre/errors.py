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


class FolderLostError(KerasGenreError):
    """A folder was removed or replaced while it was being written."""


class AudioError(KerasGenreError):
    """A file or byte string cannot be used as audio."""


class UnreachableAudioError(AudioError):
    """The machine cannot get at the file or has not the memory for it now; another time it may."""


class AudioNotFoundError(UnreachableAudioError):
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


class DownloadError(DatasetError):
    """A data set cannot be downloaded or unpacked; what was fetched so far stays, unless it is wrong."""


class MirrorError(DownloadError):
    """A mirror cannot be reached, is too slow, or answers with something other than the file."""


class CutConnectionError(DownloadError):
    """A mirror keeps ending its answers before the file is complete."""


class ChecksumError(DownloadError):
    """An archive is complete and not the one that was published."""


class ArchiveError(DownloadError):
    """An archive is damaged, or holds what an archive of a data set must not hold."""


class DiskFullError(DownloadError):
    """There is no room for an archive or for what is in it."""


class SplitError(KerasGenreError):
    """A division into training, validation and test clips cannot be used."""


class SplitLeakError(SplitError):
    """One artist group, or byte-identical audio, stands on two sides of a split."""


class WorkersError(KerasGenreError):
    """Workers on other machines cannot be had, or are lost."""


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


class SearchError(KerasGenreError):
    """A search cannot go on: its folder is of another search or damaged, or its workers are gone."""


class WeightsError(KerasGenreError):
    """The weights of a network are missing, damaged or of another network."""
