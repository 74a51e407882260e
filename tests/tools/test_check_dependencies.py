"""Tests of check_dependencies.py: run `python3 tests/tools/test_check_dependencies.py`."""

import io
import tarfile
import tempfile
import unittest
from pathlib import Path

import check_dependencies as check

REGISTRY = "registry+https://example.invalid/index"


def package(name, version, source=REGISTRY):
    return {"name": name, "version": version} | ({"source": source} if source else {})


GOOD_LOCK = [package("keyward", "0.1.0", None), package("bincode", "2.0.1"), package("redb", "4.5.0")]


class Versions(unittest.TestCase):
    def test_requirements_match_as_cargo_matches_them(self):
        table = [
            ("1.2.3", "1.2.3", True), ("1.2.3", "1.9.0", True), ("1.2.3", "1.2.2", False), ("1.2.3", "2.0.0", False),
            ("^1.2", "1.99.1", True), ("^ 1.2.3", "1.2.4", True), ("^0.2.3", "0.2.9", True), ("^0.2.3", "0.3.0", False),
            ("^0.0.3", "0.0.3", True), ("^0.0.3", "0.0.4", False), ("^0.0", "0.0.9", True), ("^0.0", "0.1.0", False),
            ("^0", "0.9.9", True), ("^0", "1.0.0", False), ("^1", "1.5.0", True),
            ("~1.2.3", "1.2.9", True), ("~1.2.3", "1.3.0", False), ("~1.2", "1.2.0", True), ("~1", "1.9.0", True), ("~1", "2.0.0", False),
            (">= 1.2", "1.2.0", True), (">=1.2", "1.1.9", False), ("> 1.2", "1.2.9", False), ("> 1.2", "1.3.0", True),
            ("> 1.2.3", "1.2.4", True), ("> 1.2.3", "1.2.3", False), ("<= 1.2", "1.2.9", True), ("<= 1.2", "1.3.0", False),
            ("<= 0.3.9", "0.3.10", False), ("< 0.3.10", "0.3.9", True), ("< 1.2", "1.1.9", True), ("< 1.2", "1.2.0", False),
            ("= 1.2.3", "1.2.3", True), ("=1.2.3", "1.2.4", False), ("=1.2", "1.2.7", True), ("1.2.*", "1.2.7", True), ("1.2.*", "1.3.0", False), ("*", "9.0.0", True),
            (">= 1.2.0, < 1.5.0", "1.4.9", True), (">= 1.2.0, < 1.5.0", "1.5.0", False), ("< 1.5.0, >= 1.2.0", "1.2.0", True),
            # Pre-releases: only by a comparator that names their release, and in order.
            (">= 1.0.0", "1.5.0-rc.1", False), (">= 1.5.0-alpha.1", "1.5.0-rc.1", True), (">= 1.5.0-rc.2", "1.5.0-rc.1", False),
            (">= 1.5.0-rc.2", "1.5.0-rc.10", True), (">= 1.5.0-rc.1", "1.5.0", True), (">= 1.5.0-rc.1", "1.6.0-rc.1", False),
            ("< 1.5.0-rc.1", "1.5.0-alpha", True), ("< 1.5.0-rc.1", "1.4.0", True), ("< 1.5.0", "1.5.0-rc.1", False),
            ("=1.5.0-rc.1", "1.5.0-rc.1", True), ("=1.5.0", "1.5.0-rc.1", False), ("^1.5.0-rc.1", "2.0.0-rc.1", False),
            (">= 1.5.0-1", "1.5.0-alpha", True), (">= 1.5.0-alpha", "1.5.0-1", False), (">= 1.5.0-alpha", "1.5.0-alpha.1", True),
            (">= 1.0.0", "1.1.2+spec-1.1.0", True), ("=1.1.2", "1.1.2+spec-1.1.0", True),
        ]
        for requirement, version, expected in table:
            with self.subTest(requirement=requirement, version=version):
                self.assertEqual(check.requirement_matches(requirement, version), expected)

    def test_what_is_no_version_or_requirement_is_an_error_and_no_match(self):
        for requirement in ["", "abc", ">= 1.x.y.z", "1.2.3.4", "!1.0"]:
            with self.subTest(requirement=requirement), self.assertRaises(ValueError):
                check.requirement_matches(requirement, "1.0.0")


class Licences(unittest.TestCase):
    def test_expressions_are_evaluated(self):
        table = [
            ("MIT", True), ("GPL-3.0", False), ("MIT OR GPL-3.0", True), ("GPL-3.0 OR MIT", True), ("MIT AND GPL-3.0", False),
            ("MIT/Apache-2.0", True), ("GPL-3.0/MPL-2.0", False), ("(MIT OR Apache-2.0) AND Unicode-3.0", True),
            ("(MIT OR Apache-2.0) AND OpenSSL", False), ("MIT OR Apache-2.0 AND OpenSSL", True), ("OpenSSL AND Apache-2.0 OR GPL-3.0", False),
            ("Apache-2.0 WITH LLVM-exception", True), ("Apache-2.0 WITH Other-exception", False),
            ("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT", True), ("(MIT OR Apache-2.0) AND NCSA", False),
        ]
        for expression, expected in table:
            with self.subTest(expression=expression):
                self.assertEqual(check.licence_allowed(expression, check.LICENCES), expected)
        self.assertTrue(check.licence_allowed("(MIT OR Apache-2.0) AND NCSA", check.FUZZ_LICENCES))

    def test_broken_expressions_are_errors(self):
        for expression in ["", "MIT OR", "(MIT", "MIT)", "AND", "MIT Apache-2.0", "MIT WITH"]:
            with self.subTest(expression=expression), self.assertRaises(ValueError):
                check.licence_allowed(expression, check.LICENCES)

    def test_only_normal_and_build_dependencies_count(self):
        def metadata(kind):
            return {
                "workspace_members": ["a"],
                "packages": [{"id": "a", "name": "a", "version": "1.0.0", "license": "MIT"}, {"id": "b", "name": "b", "version": "1.0.0", "license": None}],
                "resolve": {"nodes": [{"id": "a", "deps": [{"pkg": "b", "dep_kinds": [{"kind": kind}]}]}, {"id": "b", "deps": []}]},
            }

        self.assertEqual(len(check.check_licences("x", metadata(None), check.LICENCES)), 1)
        self.assertEqual(len(check.check_licences("x", metadata("build"), check.LICENCES)), 1)
        self.assertEqual(check.check_licences("x", metadata("dev"), check.LICENCES), [])


class Locks(unittest.TestCase):
    def test_a_good_lock_passes_and_each_bad_one_does_not(self):
        self.assertEqual(check.check_lock("l", GOOD_LOCK), [])
        bad = [
            GOOD_LOCK + [package("arrayref", "0.3.10")],
            GOOD_LOCK + [package("x", "1.0.0", "git+https://example.invalid/x")],
            GOOD_LOCK + [package("elsewhere", "1.0.0", None)],
            GOOD_LOCK + [package("redb", "2.0.0")],
            GOOD_LOCK[:2] + [package("redb", "4.4.9")],
            GOOD_LOCK[:2],
            [GOOD_LOCK[0], package("bincode", "3.0.0"), GOOD_LOCK[2]],
        ]
        for lock in bad:
            with self.subTest(lock=lock):
                self.assertEqual(len(check.check_lock("l", lock)), 1)

    def test_the_fuzzer_must_have_the_products_versions(self):
        self.assertEqual(check.check_same_versions(GOOD_LOCK, GOOD_LOCK + [package("libfuzzer-sys", "0.4.0")]), [])
        self.assertEqual(len(check.check_same_versions(GOOD_LOCK, [package("redb", "4.6.0")])), 1)

    def test_two_versions_of_a_crate_are_found_over_normal_edges_only(self):
        def metadata(kind):
            packages = [("k", "keyward", "0.1.0"), ("b1", "b", "1.0.0"), ("b2", "b", "2.0.0")]
            return {
                "workspace_members": ["k"],
                "packages": [{"id": i, "name": n, "version": v} for i, n, v in packages],
                "resolve": {"nodes": [
                    {"id": "k", "deps": [{"pkg": "b1", "dep_kinds": [{"kind": None}]}, {"pkg": "b2", "dep_kinds": [{"kind": kind}]}]},
                    {"id": "b1", "deps": []}, {"id": "b2", "deps": []},
                ]},
            }

        self.assertEqual(len(check.check_doubles(metadata(None), "keyward")), 1)
        self.assertEqual(check.check_doubles(metadata("dev"), "keyward"), [])
        self.assertEqual(check.check_doubles(metadata(None), "keyward", {"b"}), [])
        self.assertEqual(len(check.check_doubles(metadata("dev"), "keyward", {"b"})), 1)
        self.assertEqual(len(check.check_doubles(metadata(None), "other")), 1)


ADVISORY = '```toml\n[advisory]\nid = "{id}"\npackage = "{package}"\ndate = "2026-01-01"\n{extra}\n[versions]\npatched = {patched}\n{more}\n```\n\n# Title\n'


class Advisories(unittest.TestCase):
    def snapshot(self):
        entries = [
            ("RUSTSEC-2000-0001", "bad", "", '[">= 1.2.3"]', 'unaffected = ["< 1.0.0"]'),
            ("RUSTSEC-2000-0002", "old", 'informational = "unmaintained"', "[]", ""),
            ("RUSTSEC-2000-0003", "gone", 'withdrawn = "2026-02-01"', "[]", ""),
        ]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rustsec-x.tar.xz"
            with tarfile.open(path, "w:xz") as tar:
                for identity, name, extra, patched, more in entries:
                    text = ADVISORY.format(id=identity, package=name, extra=extra, patched=patched, more=more).encode()
                    info = tarfile.TarInfo(f"./crates/{name}/{identity}.md")
                    info.size = len(text)
                    tar.addfile(info, io.BytesIO(text))
            return check.advisories_of(path)

    def test_an_invented_vulnerable_lock_turns_red(self):
        table = [("bad", "1.2.2", 1), ("bad", "1.2.3", 0), ("bad", "0.9.0", 0), ("bad", "1.0.0", 1), ("old", "7.0.0", 1), ("gone", "1.0.0", 0), ("fine", "1.0.0", 0)]
        advisories = self.snapshot()
        self.assertEqual(len(advisories), 2)
        for name, version, errors in table:
            with self.subTest(name=name, version=version):
                self.assertEqual(len(check.check_advisories([("l", name, version)], advisories, set())), errors)

    def test_an_accepted_advisory_passes_while_it_matches_and_is_an_error_after(self):
        advisories = self.snapshot()
        self.assertEqual(check.check_advisories([("l", "old", "1.0.0")], advisories, {"RUSTSEC-2000-0002"}), [])
        self.assertIn("remove it", check.check_advisories([("l", "fine", "1.0.0")], advisories, {"RUSTSEC-2000-0002"})[0])


class Hosts(unittest.TestCase):
    def test_a_registry_host_is_found_but_in_the_source_lines_of_a_lock_file(self):
        host = check.REGISTRY_HOSTS[0]
        self.assertEqual(len(check.check_hosts("README.md", f"a\nhttps://{host}/x\n")), 1)
        self.assertEqual(check.check_hosts("fuzz/Cargo.lock", f'source = "registry+https://{host}-index"'), [])
        self.assertEqual(len(check.check_hosts("Cargo.lock", f'name = "{host}"')), 1)
        self.assertEqual(len(check.check_hosts("README.md", f'source = "{host}"')), 1)


if __name__ == "__main__":
    unittest.main()
