"""Public data sets: where they lie and, where their publishers or the field pinned them, their checksums.

Checksums of the CaloChallenge files are the md5 sums of their Zenodo records. For the others no checksum was
at hand when this was written: ``checksum`` is None, a download warns that it cannot tell whether the file is
what it should be, and prints the sha256 it got, to be pinned here or compared with a colleague's.
"""

from __future__ import annotations

from dataclasses import dataclass

from caloforge.errors import DataError

__all__ = ["CATALOGUE", "PublicFile", "public_files"]


@dataclass(frozen=True)
class PublicFile:
    """One file: the set it belongs to, its name, its page, its address and its checksum, as far as known."""

    data_set: str
    name: str
    page: str
    url: str | None
    checksum: str | None = None


def _zenodo(data_set: str, record: int, *files: tuple[str, str | None]) -> list[PublicFile]:
    page = f"https://zenodo.org/records/{record}"
    return [PublicFile(data_set, name, page, f"{page}/files/{name}", checksum) for name, checksum in files]


CATALOGUE: tuple[PublicFile, ...] = (
    *_zenodo(
        "calochallenge-1-photons",
        8099322,
        ("dataset_1_photons_1.hdf5", "md5:005d2adeda7db034b388112661265656"),
        ("dataset_1_photons_2.hdf5", "md5:4767715ed56e99565fd9c67340661e70"),
    ),
    *_zenodo(
        "calochallenge-1-pions",
        8099322,
        ("dataset_1_pions_1.hdf5", "md5:6a5f52722064a1bcd8a0bc002f16515d"),
        ("dataset_1_pions_2.hdf5", "md5:fee7457b40127bc23c8ab909e2638ca0"),
    ),
    *_zenodo(
        "calochallenge-2",
        6366271,
        ("dataset_2_1.hdf5", "md5:e590333e9a2da51b258288d74bd8357a"),
        ("dataset_2_2.hdf5", "md5:7a56fd68aa53ded37c2ac445694d9736"),
    ),
    *_zenodo(
        "calochallenge-3",
        6366324,
        ("dataset_3_1.hdf5", "md5:d33f03418aa311b0965452fcbef1ff87"),
        ("dataset_3_2.hdf5", "md5:911dec2c40aafa64a07b7450b80881bf"),
        ("dataset_3_3.hdf5", "md5:5ea62f6831a1821bb5035fafc9f030e8"),
        ("dataset_3_4.hdf5", "md5:5e8d82e6a6c28c6914a3b602a1cfa299"),
    ),
    *_zenodo(
        "par04",
        6082201,
        *((f"{name}_angle_{theta}.h5", None) for name in ("SiW", "SciPb") for theta in range(50, 91, 10)),
    ),
    # the addresses of the files in these records are not known here, so that they are got by hand; the names
    # are used where a mirror is given
    PublicFile("getting-high", "gamma-fullG4.hdf5", "https://zenodo.org/records/3826103", None),
    PublicFile("lemurs", "Par04SiW.h5", "https://zenodo.org/records/17045562", None),
    *(
        PublicFile("calogan", f"{particle}.hdf5", "https://data.mendeley.com/datasets/pvn3xc3wy5/1", None)
        for particle in ("gamma", "eplus", "piplus")
    ),
)


def public_files(name: str) -> list[PublicFile]:
    """The files of a data set, or the one file of this name; DataError where there is none."""
    chosen = [file for file in CATALOGUE if name in (file.data_set, file.name)]
    if not chosen:
        sets = ", ".join(dict.fromkeys(file.data_set for file in CATALOGUE))
        raise DataError(f"no public data set or file {name!r}; there are {sets} (or one of their files)")
    return chosen
