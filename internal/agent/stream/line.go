package stream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// line is one line of a log file: "TIME STREAM FLAGS TEXT". The text of a full
// line ends in a newline, that of a partial one does not.
type line struct {
	Time   time.Time
	Stamp  []byte // Time as it is written
	Stream string
	Text   []byte
}

// parseLine reads one line of the CRI log format, its newline included.
func parseLine(raw []byte) (line, error) {
	var l line
	stamp, rest, ok1 := bytes.Cut(raw, []byte{' '})
	stream, rest, ok2 := bytes.Cut(rest, []byte{' '})
	flags, text, ok3 := bytes.Cut(rest, []byte{' '})
	if !ok1 || !ok2 || !ok3 {
		return l, fmt.Errorf("log line %q is not in the CRI format", raw[:min(len(raw), 80)])
	}
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return l, fmt.Errorf("time of log line: %w", err)
	}
	if flag, _, _ := bytes.Cut(flags, []byte{':'}); string(flag) == "P" {
		text = bytes.TrimSuffix(text, []byte{'\n'})
	}
	return line{Time: at, Stamp: stamp, Stream: string(stream), Text: text}, nil
}

// Tail writes the texts of a log's last lines, at most so many bytes of them.
func Tail(path string, lines, size int64, w io.Writer) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer f.Close()
	begin, end, err := span(f, &lines)
	if err != nil {
		return err
	}
	raw, err := io.ReadAll(io.NewSectionReader(f, begin, end-begin))
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	var out []byte
	for l := range bytes.Lines(raw) {
		if parsed, err := parseLine(l); err == nil {
			out = append(out, parsed.Text...)
		}
	}
	if n := int64(len(out)); n > size {
		out = out[n-size:]
	}
	_, err = w.Write(out)
	return err
}

// tailOffset finds where the last n lines begin, reading from the end.
func tailOffset(f io.ReaderAt, end, n int64) (int64, error) {
	if n <= 0 {
		return end, nil
	}
	const block = 4096
	buf := make([]byte, block)
	seen := int64(0)
	for pos := end; pos > 0; {
		size := min(block, pos)
		pos -= size
		if _, err := f.ReadAt(buf[:size], pos); err != nil && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("read log: %w", err)
		}
		for i := size - 1; i >= 0; i-- {
			// The newline at the very end closes the last line.
			if buf[i] != '\n' || pos+i == end-1 {
				continue
			}
			if seen++; seen == n {
				return pos + i + 1, nil
			}
		}
	}
	return 0, nil
}
