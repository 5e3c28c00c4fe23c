package main

import (
	"strings"
	"testing"
	"time"
)

func TestLines(t *testing.T) {
	when := time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)
	const head = "2026-01-02T03:04:05.0000006Z stdout "
	full := strings.Repeat("x", maxLine)
	for _, test := range []struct {
		name   string
		chunks []string
		want   string
	}{
		{"whole lines", []string{"a\nb\n"}, head + "F a\n" + head + "F b\n"},
		{"a line in pieces", []string{"a", "b", "c\n"}, head + "F abc\n"},
		{"empty lines", []string{"\n\n"}, head + "F \n" + head + "F \n"},
		{"carriage return", []string{"a\r", "\nb\r\n"}, head + "F a\n" + head + "F b\n"},
		{"no line feed at the end", []string{"a\nb"}, head + "F a\n" + head + "P b\n"},
		{"as long as may be", []string{full + "\n"}, head + "F " + full + "\n"},
		{"longer", []string{full, "y\n"}, head + "P " + full + "\n" + head + "F y\n"},
		{"much longer", []string{full + full + "z"}, head + "P " + full + "\n" + head + "P " + full + "\n" + head + "P z\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := lines{stream: "stdout"}
			var got strings.Builder
			for _, chunk := range test.chunks {
				got.Write(l.add([]byte(chunk), when))
			}
			got.Write(l.end(when))
			if got.String() != test.want {
				t.Errorf("%q\nexpected %q", got.String(), test.want)
			}
		})
	}
}

func TestFrames(t *testing.T) {
	var wire strings.Builder
	if err := WriteFrame(&wire, FrameStdout, []byte("text")); err != nil {
		t.Fatal(err)
	}
	if err := WriteFrame(&wire, FrameStdinClose, nil); err != nil {
		t.Fatal(err)
	}
	r := strings.NewReader(wire.String() + "\x05\xff\xff\xff\xff")
	if kind, data, err := ReadFrame(r); kind != FrameStdout || string(data) != "text" || err != nil {
		t.Errorf("frame %d %q, %v", kind, data, err)
	}
	if kind, data, err := ReadFrame(r); kind != FrameStdinClose || len(data) != 0 || err != nil {
		t.Errorf("frame %d %q, %v", kind, data, err)
	}
	if _, _, err := ReadFrame(r); err == nil {
		t.Error("a frame of 4 GiB: expected an error")
	}
}
