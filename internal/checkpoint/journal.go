package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
)

// journal is the file: a line that says what it is, and records, each of which
// takes what is known from one moment to another. A record is a length, a
// checksum of what follows, a checksum of these two, and that.
type journal struct {
	path string
	file *os.File
	size int64 // behind the last whole record
}

const (
	title      = "skiff checkpoint 1\n"
	recordHead = 12
)

var errDamaged = errors.New("the file is damaged")

// openJournal opens a file and gives what each record holds, in order, and where
// that begins. What the power cut off at the end was never acknowledged to anybody
// and is left out; damage anywhere else is an error, for what follows it is lost,
// and what precedes it may be of any age.
func openJournal(path string, each func(body []byte, at int64) error) (*journal, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	j := &journal{path: path, file: file}
	if err := j.replay(each); err != nil {
		_ = file.Close() // nothing was written
		return nil, err
	}
	return j, nil
}

func (j *journal) replay(each func(body []byte, at int64) error) error {
	text, err := os.ReadFile(j.path)
	if err != nil {
		return err
	}
	if len(text) < len(title) || string(text[:len(title)]) != title {
		return errDamaged
	}
	at := len(title)
	for at < len(text) {
		body, rest, err := cutRecord(text[at:])
		if err != nil {
			return err
		}
		if body == nil {
			break
		}
		if err := each(body, int64(at+recordHead)); err != nil {
			return err
		}
		at = len(text) - len(rest)
	}
	j.size = int64(at)
	if at == len(title) { // there is always a first record: it says whose the file is
		return errDamaged
	}
	if at < len(text) { // or it would follow what is written next
		return j.file.Truncate(j.size)
	}
	return nil
}

// cutRecord returns what the first record holds, and what is behind it; nil if
// it is the end that was cut off.
func cutRecord(text []byte) (body, rest []byte, err error) {
	if len(text) < recordHead || empty(text) {
		return nil, nil, nil
	}
	size := int64(binary.LittleEndian.Uint32(text))
	if checksum(text[:8]) != binary.LittleEndian.Uint32(text[8:]) {
		return nil, nil, errDamaged
	}
	if int64(len(text)) < recordHead+size {
		return nil, nil, nil
	}
	body, rest = text[recordHead:recordHead+size], text[recordHead+size:]
	if checksum(body) != binary.LittleEndian.Uint32(text[4:]) {
		if len(rest) == 0 {
			return nil, nil, nil
		}
		return nil, nil, errDamaged
	}
	return body, rest, nil
}

// empty says whether there are only zeros, which file systems leave where they
// had made room and wrote nothing.
func empty(text []byte) bool {
	for _, b := range text {
		if b != 0 {
			return false
		}
	}
	return true
}

func checksum(data []byte) uint32 { return crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)) }

// record puts a head before a body.
func record(body []byte) []byte {
	out := make([]byte, 0, recordHead+len(body))
	out = binary.LittleEndian.AppendUint32(out, uint32(len(body)))
	out = binary.LittleEndian.AppendUint32(out, checksum(body))
	out = binary.LittleEndian.AppendUint32(out, checksum(out))
	return append(out, body...)
}

// append writes a record behind the others and returns where its body begins.
// After an error the file is as it was, as far as anybody reads it.
func (j *journal) append(body []byte) (at int64, err error) {
	text := record(body)
	if _, err := j.file.WriteAt(text, j.size); err != nil {
		return 0, errors.Join(err, j.file.Truncate(j.size))
	}
	if err := j.file.Sync(); err != nil {
		return 0, err
	}
	at = j.size + recordHead
	j.size += int64(len(text))
	return at, nil
}

// createJournal puts a new file with one record in the place of the one at path
// and returns where the record's body begins. Whoever has the old one open reads
// it until closing it.
func createJournal(path string, body []byte) (j *journal, at int64, err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, 0, err
	}
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !missing(err) {
		return nil, 0, err
	}
	file, err := os.OpenFile(fresh, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, 0, err
	}
	defer func() {
		if err != nil {
			_ = file.Close() // it is not used
		}
	}()
	text := append([]byte(title), record(body)...)
	if _, err := file.Write(text); err != nil {
		return nil, 0, err
	}
	if err := file.Sync(); err != nil {
		return nil, 0, err
	}
	if err := os.Rename(fresh, path); err != nil {
		return nil, 0, err
	}
	j = &journal{path: path, file: file, size: int64(len(text))}
	return j, int64(len(title) + recordHead), syncDirectory(dir)
}

func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// read returns what was written at a place.
func (j *journal) read(p place) ([]byte, error) {
	data := make([]byte, p.size)
	if _, err := j.file.ReadAt(data, p.at); err != nil {
		return nil, fmt.Errorf("read %s: %w", j.path, err)
	}
	if checksum(data) != p.check {
		return nil, fmt.Errorf("read %s: %w", j.path, errDamaged)
	}
	return data, nil
}

func (j *journal) close() error { return j.file.Close() }

// missing says whether there is no file, which is nothing to tell of.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
