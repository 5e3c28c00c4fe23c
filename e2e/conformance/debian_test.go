package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadDependencies(t *testing.T) {
	const said = `dig
 |Depends: host9
  Depends: <host>
    host9
  Depends: libc6
  PreDepends: base
libc6
  Depends: libgcc
  Recommends: libidn
`
	want := map[string][]string{"dig": {"host9", "libc6", "base"}, "libc6": {"libgcc"}}
	if diff := cmp.Diff(want, readDependencies(said)); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}
