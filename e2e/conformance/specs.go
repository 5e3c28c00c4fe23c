package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Passes is what the list says of a spec that waits for nothing.
const Passes = "passes"

// deadly ends the word for what a spec waits for if the spec, without it, spoils the
// others: one fails in a goroutine of its own, which ends the suite's process and with
// it every report, another leaves a Pod that the next ones wait for in vain. Such
// specs are not run.
const deadly = "!"

// List says of every conformance spec whether it passes or what it waits for.
type List struct {
	words map[string]string // what a word stands for
	specs map[string]string // the word of a spec, by its name
}

// readList reads a file of lines: "# WORD: what it stands for" for each word
// that is used, and "WORD NAME" for each spec, in the order of their names.
// Other lines that begin with # are comments.
func readList(path string) (List, error) {
	f, err := os.Open(path)
	if err != nil {
		return List{}, err
	}
	defer f.Close()
	list := List{words: map[string]string{}, specs: map[string]string{}}
	last := ""
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if comment, is := strings.CutPrefix(line, "# "); is {
			if word, meaning, is := strings.Cut(comment, ": "); is && !strings.Contains(word, " ") {
				list.words[word] = meaning
			}
			continue
		}
		if strings.Trim(line, "# ") == "" {
			continue
		}
		word, name, _ := strings.Cut(line, " ")
		name = strings.TrimLeft(name, " ")
		if err := list.add(word, name, last); err != nil {
			return List{}, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		last = name
	}
	return list, lines.Err()
}

func (l List) add(word, name, last string) error {
	if l.words[word] == "" {
		return fmt.Errorf("%q stands for nothing: say what in a line \"# %s: …\"", word, word)
	}
	if name <= last {
		return fmt.Errorf("%q is not in the order of names", name)
	}
	l.specs[name] = word
	return nil
}

// compare says which of the suite's names are missing, and which it has not.
func (l List) compare(names []string) error {
	var errs []error
	for _, name := range names {
		if l.specs[name] == "" {
			errs = append(errs, fmt.Errorf("%s does not list %s", listFile, name))
		}
	}
	for name := range l.specs {
		if !slices.Contains(names, name) {
			errs = append(errs, fmt.Errorf("%s lists what is no conformance spec: %s", listFile, name))
		}
	}
	return errors.Join(errs...)
}

// group is the special interest group that owns a spec, which its name begins
// with.
func group(name string) string {
	sig, _, _ := strings.Cut(strings.TrimPrefix(name, "[sig-"), "]")
	return sig
}
