package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/skiff-sh/skiff/internal/store"
)

// edit changes a file as the fuzzer says, five bytes at a time: what to do, where
// (in 16ths of a page's header, elements or anything), and with what.
func edit(data []byte, how []byte) []byte {
	data = bytes.Clone(data)
	for ; len(how) >= 5 && len(data) > 0; how = how[5:] {
		page := int(how[1]) % damagePages * pageSize
		at := page + int(binary.BigEndian.Uint16(how[2:]))%pageSize
		if at >= len(data) {
			continue
		}
		value := how[4]
		rest := data[at:]
		switch how[0] % 8 {
		case 0:
			data[at] = value
		case 1:
			data[at] ^= 1 << (value % 8)
		case 2: // a number in the machine's order, as all of bbolt's are
			if len(rest) >= 8 {
				binary.NativeEndian.PutUint64(rest, uint64(value))
			}
		case 3:
			if len(rest) >= 4 {
				binary.NativeEndian.PutUint32(rest, binary.NativeEndian.Uint32(rest)+uint32(int8(value)))
			}
		case 4: // a page for another
			if other := int(value) % damagePages * pageSize; other+pageSize <= len(data) && page+pageSize <= len(data) {
				copy(data[page:page+pageSize], data[other:other+pageSize])
			}
		case 5:
			clear(rest[:min(len(rest), int(value)*16)])
		case 6: // a meta page whose checksum is right again
			slot := int(value) % 2 * pageSize
			if slot+pageSize <= len(data) {
				data[slot+32+at%40] = how[3]
				sum := fnv.New64a()
				sum.Write(data[slot+16:][:56])
				binary.NativeEndian.PutUint64(data[slot+16+56:], sum.Sum64())
			}
		case 7:
			if value == 7 {
				data = data[:at]
			}
		}
	}
	return data
}

// FuzzFile changes a file at will: nothing panics, nothing takes long, and no
// record comes out that never was.
func FuzzFile(f *testing.F) {
	whole, past := damageStore(f, "clean")
	ever := map[store.Key]map[string]bool{}
	for _, state := range past {
		for key, value := range state {
			if ever[key] == nil {
				ever[key] = map[string]bool{}
			}
			_, value, _ = strings.Cut(value, " ") // revisions rise when lazy records are read after a crash
			ever[key][value] = true
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for what := range 8 {
		for n := 1; n < 5; n++ {
			how := make([]byte, 5*n)
			for i := range how {
				how[i] = byte(random.Uint32())
			}
			how[0] = byte(what)
			f.Add(how)
		}
	}
	dir := fastDir(f)
	f.Fuzz(func(t *testing.T, how []byte) {
		data := edit(whole, how[:min(len(how), 200)])
		if len(data) == 0 {
			return
		}
		begun := time.Now()
		s, err := examine(dir, data, true)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
		for _, err := range []error{s.checkErr, s.readErr, s.saveErr, s.openErr} {
			if err != nil && !errors.Is(err, store.ErrDamaged) {
				t.Errorf("not an ErrDamaged: %v", err)
			}
		}
		for what, records := range map[string]map[store.Key]string{"read": s.read, "salvaged": s.salvaged, "opened": s.opened} {
			for key, value := range records {
				if _, value, _ := strings.Cut(value, " "); !ever[key][value] {
					t.Errorf("%s: %s is what it never was", what, key)
				}
			}
		}
		if s.readErr == nil && s.openErr == nil && len(s.scanErrs) == 0 && s.opened != nil && !maps.Equal(s.read, s.opened) && s.contents.Clean {
			t.Errorf("read and opened differ: %s", difference(s.read, s.opened))
		}
	})
}
