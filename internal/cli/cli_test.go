package cli

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	appsv1 "k8s.io/api/apps/v1"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"skiff": func() {
			if err := New(os.Stdout).ExecuteContext(context.Background()); err != nil {
				fmt.Fprintln(os.Stderr, "skiff:", err)
				os.Exit(1)
			}
		},
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata"})
}

var sentence = regexp.MustCompile(`[.!?](\s|$)`)

// Every command says how it is used, in at least three sentences, with an
// example.
func TestHelp(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Hidden {
			return
		}
		path := c.CommandPath()
		if n := len(sentence.FindAllString(c.Long, -1)); n < 3 {
			t.Errorf("%s: the help has %d sentences, want at least 3", path, n)
		}
		for line := range strings.Lines(c.Long) {
			if len(line) > 84 {
				t.Errorf("%s: a line of the help is longer than a terminal: %q", path, line)
			}
		}
		if !strings.Contains(c.Example, "skiff") {
			t.Errorf("%s: there is no example", path)
		}
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short help %q", path, c.Short)
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(New(os.Stdout))
}

// The hello manifest is a Deployment and a Service that select the same Pods.
func TestHelloManifest(t *testing.T) {
	documents := strings.Split(helloManifest, "---\n")
	if len(documents) != 2 {
		t.Fatalf("%d documents, want 2", len(documents))
	}
	var d appsv1.Deployment
	if err := yaml.UnmarshalStrict([]byte(documents[0]), &d); err != nil {
		t.Fatal(err)
	}
	if *d.Spec.Replicas != 2 || d.Spec.Selector.MatchLabels["app"] != d.Spec.Template.Labels["app"] {
		t.Errorf("replicas %d, selector %v", *d.Spec.Replicas, d.Spec.Selector)
	}
}
