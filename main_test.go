package main

import (
	"bufio"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// The linker drops what is never reached only as long as no code that is
// reached looks methods up by a name it computes. When this fails, it names the
// way from main to the code that does.
func TestDeadCodeIsEliminated(t *testing.T) {
	command := exec.Command("go", "build", "-trimpath", "-tags", "grpcnotrace", "-ldflags", "-dumpdep", "-o", os.DevNull, ".")
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	cameFrom := map[string]string{}
	edges := 0
	var guilty []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		from, to, ok := strings.Cut(lines.Text(), " -> ")
		if !ok {
			continue
		}
		edges++
		for _, end := range []string{from, to} {
			if strings.Contains(end, "<ReflectMethod>") || strings.Contains(end, ",ReflectMethod") {
				guilty = append(guilty, symbol(end))
			}
		}
		if _, known := cameFrom[symbol(to)]; !known {
			cameFrom[symbol(to)] = symbol(from)
		}
	}
	if err := command.Wait(); err != nil {
		t.Fatalf("build: %v", err)
	}
	if edges < 10_000 {
		t.Fatalf("the linker told only %d edges: has its format changed?", edges)
	}
	slices.Sort(guilty)
	guilty = slices.Compact(guilty)
	if causes := slices.DeleteFunc(slices.Clone(guilty), isConsequence); len(causes) > 0 {
		guilty = causes
	}
	for _, name := range guilty {
		t.Errorf("dead-code elimination is off because of\n\t%s", strings.Join(way(cameFrom, name), "\n\t← "))
	}
}

// isConsequence reports whether a function is but a type's way to reflect's own
// look-up, which is kept with all other methods once somebody looks one up.
func isConsequence(name string) bool {
	return strings.HasSuffix(name, ".Method") || strings.HasSuffix(name, ".MethodByName") || strings.Contains(name, ".Methods.")
}

// symbol strips the linker's marks from a symbol's name.
func symbol(text string) string {
	name, _, _ := strings.Cut(text, " <")
	return strings.TrimSpace(name)
}

// way leads from a symbol back to the start, a few steps of it.
func way(cameFrom map[string]string, name string) []string {
	var steps []string
	for len(steps) < 12 && name != "" && !slices.Contains(steps, name) {
		steps = append(steps, name)
		name = cameFrom[name]
	}
	return steps
}
