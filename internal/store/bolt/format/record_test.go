package format

import (
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/skiff-sh/skiff/internal/store"
)

// TestReadme: the example in the description of the format is right.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^    ((?:[0-9a-f]{2} )+[0-9a-f]{2})`).FindAllStringSubmatch(string(text), -1)
	var record, state []byte
	for i, line := range found {
		b, err := hex.DecodeString(strings.ReplaceAll(line[1], " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			record = b
		} else {
			state = append(state, b...)
		}
	}
	key := store.Key{Bucket: "configmaps", Name: "default/a"}
	if want := EncodeRecord(key, 0, 7, []byte("hi")); !slices.Equal(record, want) {
		t.Errorf("the example is % x, want % x", record, want)
	}
	h, err := ReadHeader(key, record)
	if err != nil {
		t.Fatal(err)
	}
	buckets := TallyBucket([]byte("b/configmaps"), Tally(0).Add(h)).Plus(TallyBucket([]byte("lazy"), 0)).Plus(TallyBucket([]byte("meta"), 0))
	if want := (State{Revision: 7, Reserved: 7, Buckets: buckets, Tx: 5}).Encode(); !slices.Equal(state, want) {
		t.Errorf("the state of the example is % x, want % x", state, want)
	}
	for _, want := range []string{
		fmt.Sprintf("0x%016x", uint64(fingerprint(h))), fmt.Sprintf("0x%016x", uint64(Tally(0).Add(h))), fmt.Sprintf("0x%08x", h.Checksum),
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the description lacks %s", want)
		}
	}
}
