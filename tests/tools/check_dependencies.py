#!/usr/bin/env python3
"""Checks what the lock files bring in: advisories, licences, doubled crates, pinned versions, sources.

Needs Python 3.11 and cargo, no network beyond what `cargo metadata --locked` needs. Prints every finding and exits 1
when there is one. test_check_dependencies.py beside this file tests it.
"""

import json
import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

ACCEPTED_ADVISORIES = {
    # bincode is unmaintained because it is finished; it stands behind one module in each package, its format is
    # specified in proto/PROTOCOL.md and pinned by golden frames, so that another codec can replace it.
    "RUSTSEC-2025-0141",
}

NEVER = {
    # Malicious release (RUSTSEC-2026-0260).
    ("arrayref", "0.3.10"),
}

LICENCES = {
    "MIT", "MIT-0", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Zlib",
    "Unicode-3.0", "CC0-1.0", "0BSD", "Unlicense", "BSL-1.0",
}
# libfuzzer-sys carries LLVM's old licence; it is linked into nothing that is shipped.
FUZZ_LICENCES = LICENCES | {"NCSA"}

# Crates that the binary may hold twice, each with its reason. None so far.
ACCEPTED_DOUBLES: set[str] = set()

# Written in two parts, so that this file does not name them either.
REGISTRY_HOSTS = [
    a + b
    for a, b in [
        ("crates", ".io"), ("pypi", ".org"), ("pythonhosted", ".org"), ("npmjs", ".org"), ("npmjs", ".com"),
        ("proxy.golang", ".org"), ("rubygems", ".org"), ("packagist", ".org"),
    ]
]


# Versions, as cargo compares them.

VERSION = re.compile(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?")


def parse_version(text):
    """(major, minor, patch, pre); minor and patch None when left out, pre a tuple of its dotted parts."""
    match = VERSION.fullmatch(text.strip())
    if not match:
        raise ValueError(f"not a version: {text!r}")
    numbers = [None if part is None else int(part) for part in match.group(1, 2, 3)]
    return (*numbers, tuple(match.group(4).split(".")) if match.group(4) else ())


def order(version):
    """A sort key: a pre-release is below its release, numeric parts below words."""
    major, minor, patch, pre = version
    parts = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in pre)
    return (major, minor or 0, patch or 0, not pre, parts)


def next_after(version, kind):
    """The first release that `^version` or `~version` no longer covers, without its pre-releases' order."""
    major, minor, patch, _ = version
    if kind == "~":
        return (major + 1, 0, 0) if minor is None else (major, minor + 1, 0)
    if major > 0 or minor is None:
        return (major + 1, 0, 0)
    if minor > 0 or patch is None:
        return (0, minor + 1, 0)
    return (0, 0, patch + 1)


def comparator_matches(operator, wanted, version):
    plain = version[:3]
    low = order(wanted)
    here = order(version)
    match operator:
        case "^" | "~" | "":
            return here >= low and plain < next_after(wanted, operator or "^")
        case "=":
            given = [part for part in wanted[:3] if part is not None]
            return list(plain[: len(given)]) == given and version[3] == wanted[3]
        case ">":
            # `> 1.2` is above every 1.2.x.
            given = [part for part in wanted[:3] if part is not None]
            return here > low if len(given) == 3 else list(plain[: len(given)]) > given
        case ">=":
            return here >= low
        case "<":
            return here < low
        case "<=":
            given = [part for part in wanted[:3] if part is not None]
            return here <= low if len(given) == 3 else list(plain[: len(given)]) <= given
    raise ValueError(f"unknown operator {operator!r}")


def requirement_matches(requirement, version_text):
    """Cargo's rule: every comparator holds, and a pre-release needs a comparator that names its very release."""
    version = parse_version(version_text)
    comparators = []
    for part in requirement.split(","):
        part = part.strip()
        if part == "*":
            comparators.append((">=", (0, None, None, ())))
            continue
        match = re.fullmatch(r"(\^|~|=|>=|<=|>|<)?\s*(.+)", part)
        if not match:
            raise ValueError(f"not a requirement: {requirement!r}")
        wanted = match.group(2)
        if re.search(r"\.[*xX]", wanted):
            comparators.append(("=", parse_version(re.sub(r"(\.[*xX])+$", "", wanted))))
        else:
            comparators.append((match.group(1) or "", parse_version(wanted)))
    if not all(comparator_matches(operator, wanted, version) for operator, wanted in comparators):
        return False
    return not version[3] or any(wanted[3] and wanted[:3] == version[:3] for _, wanted in comparators)


# Advisories.


def advisories_of(archive):
    """Every advisory of the snapshot that was not withdrawn: (id, package, kind, ranges that are safe)."""
    found = []
    with tarfile.open(archive) as tar:
        for member in tar:
            if not re.search(r"(^|/)crates/[^/]+/RUSTSEC-[^/]+\.md$", member.name):
                continue
            front = re.match(r"\s*```toml\n(.*?)\n```", tar.extractfile(member).read().decode(), re.DOTALL)
            if not front:
                raise ValueError(f"{member.name} has no front matter")
            data = tomllib.loads(front.group(1))
            about = data["advisory"]
            if "withdrawn" in about:
                continue
            versions = data.get("versions", {})
            safe = versions.get("patched", []) + versions.get("unaffected", [])
            found.append((about["id"], about["package"], about.get("informational", "vulnerable"), safe))
    return found


def check_advisories(packages, advisories, accepted=None):
    """`packages` are (lock file, name, version) of registry crates."""
    accepted = ACCEPTED_ADVISORIES if accepted is None else accepted
    errors, used = [], set()
    by_name = {}
    for advisory in advisories:
        by_name.setdefault(advisory[1], []).append(advisory)
    for lock, name, version in packages:
        for identity, _, kind, safe in by_name.get(name, []):
            if any(requirement_matches(requirement, version) for requirement in safe):
                continue
            if identity in accepted:
                used.add(identity)
            else:
                errors.append(f"{lock}: {name} {version} is {kind}: {identity}; safe: {', '.join(safe) or 'no version'}")
    errors += [f"accepted advisory {identity} matches nothing any more: remove it" for identity in sorted(accepted - used)]
    return errors


# Lock files.


def check_lock(lock, packages, proper=True):
    """Pinned versions and sources. `packages` as in the file; `proper` when it is the product's own lock file."""
    errors = []
    for package in packages:
        name, version, source = package["name"], package["version"], package.get("source")
        if (name, version) in NEVER:
            errors.append(f"{lock}: {name} {version} must never be used")
        if source is None:
            # Path packages have no source; the workspace's are all ours by name.
            if not re.fullmatch(r"keyward(-[a-z]+)?", name):
                errors.append(f"{lock}: {name} comes from a path outside the workspace")
        elif not source.startswith("registry+"):
            errors.append(f"{lock}: {name} comes from {source.split('+')[0]}, not from the registry")
    if proper:
        versions = lambda wanted: [package["version"] for package in packages if package["name"] == wanted]
        if versions("bincode") != ["2.0.1"]:
            errors.append(f"{lock}: bincode must be exactly 2.0.1, not {versions('bincode')}")
        redb = versions("redb")
        if len(redb) != 1 or not requirement_matches(">=4.5, <5", redb[0]):
            errors.append(f"{lock}: redb must be one 4.x of at least 4.5, not {redb}")
    return errors


def check_same_versions(packages, fuzz_packages):
    """What is fuzzed is what is shipped: the fuzzer's lock file has the product's versions."""
    ours = {(package["name"], package["version"]) for package in packages}
    names = {name for name, _ in ours}
    return [
        f"fuzz/Cargo.lock: {p['name']} {p['version']} is not the version of Cargo.lock; copy that one over and run cargo metadata in fuzz/"
        for p in fuzz_packages
        if p["name"] in names and (p["name"], p["version"]) not in ours
    ]


# Licences.


def licence_allowed(expression, allowed):
    """Evaluates an SPDX expression; the old `A/B` of cargo means OR. AND binds closer than OR."""
    tokens = re.findall(r"[()]|[A-Za-z0-9.+-]+", expression.replace("/", " OR "))
    position = 0

    def peek():
        return tokens[position] if position < len(tokens) else None

    def take():
        nonlocal position
        position += 1
        return tokens[position - 1]

    def either():
        value = both()
        while peek() == "OR":
            take()
            value = both() or value
        return value

    def both():
        value = single()
        while peek() == "AND":
            take()
            value = single() and value
        return value

    def single():
        if peek() is None or peek() in (")", "AND", "OR", "WITH"):
            raise ValueError(f"not a licence expression: {expression!r}")
        if peek() == "(":
            take()
            value = either()
            if peek() != ")":
                raise ValueError(f"not a licence expression: {expression!r}")
            take()
            return value
        name = take()
        if peek() == "WITH":
            take()
            if peek() is None:
                raise ValueError(f"not a licence expression: {expression!r}")
            name = f"{name} WITH {take()}"
        return name in allowed

    value = either()
    if peek() is not None:
        raise ValueError(f"not a licence expression: {expression!r}")
    return value


def reached(metadata, roots, kinds):
    """Ids of all packages reached from `roots` over edges of `kinds` (None is a normal dependency)."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    seen, waiting = set(), list(roots)
    while waiting:
        identity = waiting.pop()
        if identity in seen:
            continue
        seen.add(identity)
        for dependency in nodes[identity]["deps"]:
            if any(kind["kind"] in kinds for kind in dependency["dep_kinds"]):
                waiting.append(dependency["pkg"])
    return seen


def check_licences(place, metadata, allowed):
    members = set(metadata["workspace_members"])
    used = reached(metadata, members, {None, "build"})
    errors = []
    for package in sorted(metadata["packages"], key=lambda package: package["name"]):
        if package["id"] not in used:
            continue
        title = f"{place}: {package['name']} {package['version']}"
        licence = package.get("license")
        try:
            if not licence:
                errors.append(f"{title} names no licence")
            elif not licence_allowed(licence, allowed):
                errors.append(f"{title} has the licence {licence}, which is not on the list")
        except ValueError as error:
            errors.append(f"{title}: {error}")
    return errors


def check_doubles(metadata, binary, accepted=None):
    """No crate in two versions among the normal dependencies of the binary."""
    accepted = ACCEPTED_DOUBLES if accepted is None else accepted
    packages = {package["id"]: package for package in metadata["packages"]}
    roots = [i for i in metadata["workspace_members"] if packages[i]["name"] == binary]
    versions = {}
    for identity in reached(metadata, roots, {None}) if roots else []:
        # What a procedural macro is made of runs in the compiler, not in the binary; it counts all the same.
        versions.setdefault(packages[identity]["name"], set()).add(packages[identity]["version"])
    errors = [] if roots else [f"no package {binary} in the workspace"]
    doubled = {name for name, found in versions.items() if len(found) > 1}
    errors += [f"{name} is there in versions {', '.join(sorted(versions[name]))}" for name in sorted(doubled - accepted)]
    errors += [f"accepted double {name} is none any more: remove it" for name in sorted(accepted - doubled)]
    return errors


# Text.


def check_hosts(name, text):
    """No registry is named in the repository, but by the `source` lines of a lock file."""
    is_lock = name.split("/")[-1] == "Cargo.lock"
    return [
        f"{name}:{number}: names the registry host {host}"
        for number, line in enumerate(text.splitlines(), 1)
        for host in REGISTRY_HOSTS
        if host in line.lower() and not (is_lock and line.startswith("source = "))
    ]


def run(*command, cwd=ROOT):
    return subprocess.run(command, cwd=cwd, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True).stdout


def metadata_of(folder, *options):
    return json.loads(run("cargo", "metadata", "--locked", "--format-version", "1", *options, cwd=folder))


def host_target():
    return re.search(r"^host: (.+)$", run("rustc", "-vV"), re.MULTILINE).group(1)


def tracked_texts():
    for name in run("git", "ls-files", "-z").split("\0"):
        path = ROOT / name
        if name and path.is_file() and not path.is_symlink():
            yield name, path.read_bytes().decode(errors="replace")


def main():
    errors = []
    locks = {"Cargo.lock": tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]}
    fuzz = ROOT / "fuzz" / "Cargo.lock"
    if fuzz.exists():
        locks["fuzz/Cargo.lock"] = tomllib.loads(fuzz.read_text())["package"]
        errors += check_same_versions(locks["Cargo.lock"], locks["fuzz/Cargo.lock"])
    for lock, packages in locks.items():
        errors += check_lock(lock, packages, proper=lock == "Cargo.lock")

    archives = sorted((ROOT.parent / "shared" / "advisories").glob("rustsec-*.tar.xz"))
    if archives:
        advisories = advisories_of(archives[-1])
        crates = [(lock, p["name"], p["version"]) for lock, all_ in locks.items() for p in all_ if p.get("source")]
        errors += check_advisories(crates, advisories)
        print(f"{len(crates)} locked crates against {len(advisories)} advisories of {archives[-1].name}")
    else:
        where = ROOT.parent / "shared" / "advisories"
        print(f"SKIPPED: lock files against the RustSec advisories, because {where} holds no snapshot")

    # A lock file that cargo itself refuses must not hide the findings above.
    try:
        errors += check_licences("Cargo.lock", metadata_of(ROOT), LICENCES)
        if fuzz.exists():
            errors += check_licences("fuzz/Cargo.lock", metadata_of(fuzz.parent), FUZZ_LICENCES)
        errors += check_doubles(metadata_of(ROOT, "--filter-platform", host_target()), "keyward")
    except subprocess.CalledProcessError as error:
        errors.append(f"{' '.join(error.cmd)} failed; licences and doubled crates are not checked")

    if (ROOT / ".git").exists():
        for name, text in tracked_texts():
            errors += check_hosts(name, text)
    else:
        print("SKIPPED: tracked files for registry hosts, because this is no git checkout")

    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    if not errors:
        print("dependencies: nothing to complain about")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
