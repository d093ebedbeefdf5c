"""What must hold before a version is tagged: run by ``make release-check``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import versions

BY_HAND = """Left to you:
  - read the changelog once as a user of the version before: is every removal and new default in it?
  - incompatible changes raise the first number (the second, before 1.0), features the second
  - make test-slow, make test-oldest, make test-newest, which take longest
  - make tags (v{version}, and older ones that are not here), git push --tags, upload dist/"""


def checks() -> dict[str, bool]:
    """Return every step and whether it is done."""
    number = versions.package()
    # an empty file is one that is still written, or was not
    built = [path.name for path in (versions.ROOT / "dist").glob("*") if path.stat().st_size]
    changes = versions.read(versions.CHANGES)
    tags = {known: versions.tagged(known) for known, _ in versions.released(changes)}
    return {
        "nothing is uncommitted": versions.git("status", "--porcelain") == "",
        f"CHANGELOG.md's newest version is {number}": versions.released(changes)[0][0] == number,
        "nothing in CHANGELOG.md is unreleased (make version NEW=X.Y.Z)": not versions.unreleased(
            changes
        ),
        f"CITATION.cff says {number} and the changelog's date": versions.cited()
        == versions.released(changes)[0],
        "each tag that is here is at the commit of its version": all(
            tag in ("", versions.commit(known)) for known, tag in tags.items()
        ),
        "wheel and sdist are built": sum(number in name for name in built) == 2,
        "the bill of materials is there": "sbom.cdx.json" in built,
        "the documentation is built": (versions.ROOT / "site" / "index.html").is_file(),
    }


def main() -> int:
    """Print the checklist; 1 where something is missing."""
    found = checks()
    for step, done in found.items():
        print("[x]" if done else "[ ]", step)
    print(BY_HAND.format(version=versions.package()))
    return int(not all(found.values()))


if __name__ == "__main__":
    sys.exit(main())
