package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const someList = `# Words:
# passes: nothing is missing
# Job: the kind and its controller

Job    [sig-apps] a [Conformance]
Job    [sig-apps] b [Conformance]
passes [sig-apps] c [Conformance]
passes [sig-node] d [Conformance]
passes [sig-node] e [Conformance]
`

const someReport = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites><testsuite name="Kubernetes e2e suite">
<testcase name="[SynchronizedBeforeSuite]" status="passed"></testcase>
<testcase name="[It] [sig-apps] a [Conformance]" status="failed"><failure>no</failure></testcase>
<testcase name="[It] [sig-apps] b [Conformance]" status="passed"></testcase>
<testcase name="[It] [sig-apps] c [Conformance]" status="passed"></testcase>
<testcase name="[It] [sig-node] d [Conformance]" status="timedout"></testcase>
<testcase name="[It] [sig-node] e [Conformance]" status="skipped"><skipped></skipped></testcase>
</testsuite></testsuites>`

func write(t *testing.T, name, data string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestVerdict(t *testing.T) {
	list, err := readList(write(t, "specs.txt", someList))
	if err != nil {
		t.Fatal(err)
	}
	passed, err := readReport(write(t, "junit.xml", someReport))
	if err != nil {
		t.Fatal(err)
	}
	all := judge(list, passed)
	if all.err() == nil {
		t.Error("a spec failed and one did not run, and that is no error")
	}
	var out bytes.Buffer
	all.print(&out)
	const want = `   SIG  passed  failed  not run
  apps       2       1        0
  node       0       1        1
   all       2       2        1
1 wait for Job:
  [sig-apps] a [Conformance]
Waits, but passed; move to passes:
  [sig-apps] b [Conformance]
Did not run, but should:
  [sig-node] e [Conformance]
Failed:
  [sig-node] d [Conformance]
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	apps := judge(list.chosen(options{focus: regexp.MustCompile(`sig-apps`), skip: regexp.MustCompile(` b `)}), passed)
	if err := apps.err(); err != nil || len(apps.better) > 0 {
		t.Errorf("only of what was asked for: %v, %v", err, apps.better)
	}
	passing := judge(list.chosen(options{passing: true}), passed)
	if len(passing.waits)+len(passing.better) > 0 || len(passing.failed) != 1 || len(passing.absent) != 1 {
		t.Errorf("of those that wait for nothing: %+v", passing)
	}
}

func TestBadList(t *testing.T) {
	for _, c := range []struct{ name, list, want string }{
		{"a word without a meaning", "passes a\n", "stands for nothing"},
		{"out of order", "# passes: yes\npasses b\npasses a\n", "order of names"},
		{"twice", "# passes: yes\npasses a\npasses a\n", "order of names"},
	} {
		if _, err := readList(write(t, "specs.txt", c.list)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// The committed list is whole.
func TestList(t *testing.T) {
	list, err := readList("specs.txt")
	if err != nil {
		t.Fatal(err)
	}
	if len(list.specs) != 446 {
		t.Errorf("%d names, want the 446 of %s", len(list.specs), upstream)
	}
	used := map[string]bool{}
	for name, word := range list.specs {
		used[word] = true
		if !strings.HasPrefix(name, "[sig-") || !strings.Contains(name, "[Conformance]") {
			t.Errorf("%q is no name of a conformance spec", name)
		}
	}
	for word := range list.words {
		if !used[word] {
			t.Errorf("no spec waits for %s: drop the word", word)
		}
	}
}

func TestCompare(t *testing.T) {
	list := List{specs: map[string]string{"a": Passes, "b": Passes}}
	err := list.compare([]string{"a", "c"})
	if err == nil || !strings.Contains(err.Error(), "does not list c") || !strings.Contains(err.Error(), "no conformance spec: b") {
		t.Error(err)
	}
}
