package stream

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
)

func ptr[T any](v T) *T { return &v }

const sample = "2026-01-01T00:00:01Z stdout F one\n" +
	"2026-01-01T00:00:02Z stderr F two\n" +
	"2026-01-01T00:00:03Z stdout P thr\n" +
	"2026-01-01T00:00:03Z stdout F ee\n" +
	"2026-01-01T00:00:04Z stdout F four\n"

func writeLog(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "0.log")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCopy(t *testing.T) {
	path := writeLog(t, sample)
	for _, test := range []struct {
		name string
		o    LogOptions
		want string
	}{
		{"all", LogOptions{}, "one\ntwo\nthree\nfour\n"},
		{"tail", LogOptions{Tail: ptr(int64(2))}, "ee\nfour\n"},
		{"none", LogOptions{Tail: ptr(int64(0))}, ""},
		{"more than there is", LogOptions{Tail: ptr(int64(99))}, "one\ntwo\nthree\nfour\n"},
		{"since", LogOptions{Since: time.Date(2026, 1, 1, 0, 0, 3, 0, time.UTC)}, "three\nfour\n"},
		{"stream", LogOptions{Stream: "stderr"}, "two\n"},
		{"limit", LogOptions{Limit: ptr(int64(6))}, "one\ntw"},
		{"timestamps", LogOptions{Timestamps: true, Tail: ptr(int64(3))}, "2026-01-01T00:00:03Z three\n2026-01-01T00:00:04Z four\n"},
	} {
		var b bytes.Buffer
		if err := Copy(t.Context(), path, test.o, nil, &b, func() {}); err != nil || b.String() != test.want {
			t.Errorf("%s: got %q, %v; want %q", test.name, b.String(), err, test.want)
		}
	}
}

// busyReader is one during whose reading a line comes.
type busyReader struct {
	bytes.Buffer
	t    *testing.T
	path string
}

func (b *busyReader) Write(p []byte) (int, error) {
	f, err := os.OpenFile(b.path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("2026-01-01T00:00:09Z stdout F late\n"); err != nil {
		b.t.Fatal(err)
	}
	return b.Buffer.Write(p)
}

func TestLinesThatComeMeanwhile(t *testing.T) {
	path := writeLog(t, sample)
	b := &busyReader{t: t, path: path}
	if err := Copy(t.Context(), path, LogOptions{Tail: ptr(int64(1))}, nil, b, func() {}); err != nil || b.String() != "four\n" {
		t.Errorf("the last line: %q, %v", b.String(), err)
	}
}

func TestTailOfLongLog(t *testing.T) {
	var b strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&b, "2026-01-01T00:00:01Z stdout F line %d\n", i)
	}
	path := writeLog(t, b.String())
	var out bytes.Buffer
	if err := Copy(t.Context(), path, LogOptions{Tail: ptr(int64(500))}, nil, &out, func() {}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(out.String(), "\n"); got != 500 || !strings.HasPrefix(out.String(), "line 2500\n") {
		t.Errorf("%d lines, beginning %.20q", got, out.String())
	}
	out.Reset()
	if err := Tail(path, 80, 20, &out); err != nil || out.String() != "line 2998\nline 2999\n" {
		t.Errorf("tail is %q, %v", out.String(), err)
	}
}

// follow reads a log in the background, line by line.
func follow(t *testing.T, path string, done <-chan struct{}) (lines chan string, result chan error) {
	t.Helper()
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	lines, result = make(chan string, 100), make(chan error, 1)
	go func() {
		err := Copy(ctx, path, LogOptions{Follow: true}, done, w, func() {})
		w.Close()
		result <- err
	}()
	go func() {
		buf := make([]byte, 64<<10)
		rest := ""
		for {
			n, err := r.Read(buf)
			rest += string(buf[:n])
			for {
				line, after, ok := strings.Cut(rest, "\n")
				if !ok {
					break
				}
				lines <- line
				rest = after
			}
			if err != nil {
				close(lines)
				return
			}
		}
	}()
	return lines, result
}

func expect(t *testing.T, lines <-chan string, want string) {
	t.Helper()
	select {
	case got := <-lines:
		if got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("waited in vain for %q", want)
	}
}

func appendLine(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, "2026-01-01T00:00:05Z stdout F %s\n", text); err != nil {
		t.Fatal(err)
	}
}

func TestFollowAcrossRotation(t *testing.T) {
	path := writeLog(t, "")
	done := make(chan struct{})
	lines, result := follow(t, path, done)
	appendLine(t, path, "a")
	expect(t, lines, "a")
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	appendLine(t, path+".old", "b") // the writer has not reopened yet
	expect(t, lines, "b")
	appendLine(t, path, "c")
	expect(t, lines, "c")
	appendLine(t, path, "d")
	close(done)
	expect(t, lines, "d")
	if err := <-result; err != nil {
		t.Error(err)
	}
	if line, more := <-lines; more {
		t.Errorf("after the end comes %q", line)
	}
}

func TestRotator(t *testing.T) {
	path := writeLog(t, "")
	reopened := make(chan string, 100)
	r := NewRotator(RotatorConfig{
		MaxSize: 100, MaxFiles: 3, Rest: time.Millisecond, Log: zaptest.NewLogger(t),
		Reopen: func(_ context.Context, id string) error {
			reopened <- id
			return os.WriteFile(path, nil, 0o600)
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	r.Add("id", path)
	for range 7 {
		for {
			appendLine(t, path, strings.Repeat("x", 60))
			appendLine(t, path, strings.Repeat("x", 60))
			select {
			case id := <-reopened:
				if id != "id" {
					t.Errorf("reopened %s", id)
				}
			case <-time.After(50 * time.Millisecond):
				continue
			}
			break
		}
	}
	r.Remove("id")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if files, _ := filepath.Glob(path + "*"); len(files) != r.MaxFiles {
		t.Errorf("kept are %q", files)
	}
}

// Logs put aside are in the order of their names, whatever is done to the clock.
func TestAsideNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		now  time.Time
		want string
	}{
		{noon, "20260101-120000.000"},
		{noon, "20260101-120000.001"},
		{noon.AddDate(-2, 0, 0), "20260101-120000.002"},
		{noon.Add(time.Hour), "20260101-130000.000"},
	} {
		got, err := asideName(path, c.now)
		if err != nil || got != path+"."+c.want {
			t.Errorf("%s: %s, %v", c.now, got, err)
		}
		if err := os.WriteFile(got, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
