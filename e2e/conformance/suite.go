package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// conformance is the label of upstream's conformance specs.
const conformance = "Conformance"

// report is the JUnit that upstream's suite writes.
func (p place) report() string { return p.built("junit_01.xml") }

// log is what the suite says while it runs.
func (p place) log() string { return p.built("specs.log") }

// compareNames says where the list has other names than upstream's suite.
func compareNames(ctx context.Context, p place, list List) error {
	inputs, err := os.ReadFile(p.built(".e2e.test.inputs"))
	if err != nil {
		return err
	}
	err = cached(p, "names", string(inputs), func(to string) error {
		report := to + ".json"
		defer os.Remove(report)
		cmd := exec.CommandContext(ctx, p.built("e2e.test"), "--ginkgo.dry-run", "--ginkgo.label-filter="+conformance,
			"--ginkgo.json-report="+report, "--kubeconfig=/dev/null", "--provider=skeleton")
		if said, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", cmd, err, said)
		}
		names, err := namesOf(report)
		if err != nil {
			return err
		}
		return os.WriteFile(to, []byte(strings.Join(names, "\n")+"\n"), 0o644)
	})
	if err != nil {
		return err
	}
	data, err := os.ReadFile(p.built("names"))
	if err != nil {
		return err
	}
	return list.compare(strings.Split(strings.TrimSpace(string(data)), "\n"))
}

// namesOf are those of the specs that a report of ginkgo's has run.
func namesOf(path string) ([]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var reports []struct {
		SpecReports []struct {
			ContainerHierarchyTexts []string
			LeafNodeType            string
			LeafNodeText            string
			State                   string
		}
	}
	if err := json.Unmarshal(data, &reports); err != nil {
		return nil, err
	}
	var names []string
	for _, r := range reports {
		for _, s := range r.SpecReports {
			if s.LeafNodeType == "It" && s.State == "passed" {
				names = append(names, strings.Join(append(s.ContainerHierarchyTexts, s.LeafNodeText), " "))
			}
		}
	}
	slices.Sort(names)
	return names, nil
}

// runSuite runs the specs that were asked for, those that must be alone at the
// end, and none that would end the suite's process. That specs fail is no error.
func runSuite(ctx context.Context, p place, c *cluster, o options, list List, out io.Writer) error {
	log, err := os.Create(p.log())
	if err != nil {
		return err
	}
	defer log.Close()
	if err := os.Remove(p.report()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	fmt.Fprintf(out, "running the specs, %d side by side; %s grows …\n", o.procs, p.log())
	cmd := c.inside(ctx, o.command(p, c.kubeconfig(), list)...)
	// What a kubectl that specs start keeps is not for the one who runs this.
	home := p.built("home")
	if err := errors.Join(os.RemoveAll(home), os.MkdirAll(home, 0o755)); err != nil {
		return err
	}
	cmd.Dir, cmd.Stdout, cmd.Stderr = home, log, log
	// Ginkgo asks go for its version in this module, which must not ask a network.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + home, "GOPROXY=off"}
	err = cmd.Run()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		if _, missing := os.Stat(p.report()); missing != nil {
			return fmt.Errorf("the suite wrote no report (%w): see %s", err, p.log())
		}
		return nil // the report says it better
	}
	return err
}

// command is ginkgo with upstream's suite.
func (o options) command(p place, kubeconfig string, list List) []string {
	args := []string{
		// Without the interceptor, what a process says that panics is not lost.
		p.built("ginkgo"), "--no-color", "--silence-skips", "--output-interceptor-mode=none", "--label-filter=" + conformance,
		fmt.Sprintf("--procs=%d", o.procs), "--timeout=" + o.timeout.String(),
	}
	if o.focus != nil {
		args = append(args, "--focus="+o.focus.String())
	}
	if o.skip != nil {
		args = append(args, "--skip="+o.skip.String())
	}
	for name, word := range list.specs {
		if strings.HasSuffix(word, deadly) || o.passing && word != Passes {
			args = append(args, "--skip="+regexp.QuoteMeta(name))
		}
	}
	return append(args, p.built("e2e.test"), "--",
		"--kubeconfig="+kubeconfig, "--kubectl-path="+p.built("kubectl"), "--provider=skeleton",
		fmt.Sprintf("--num-nodes=%d", len(nodes)), "--allowed-not-ready-nodes=0", "--minStartupPods=0",
		"--report-dir="+filepath.Dir(p.report()), "--disable-log-dump", "--dump-logs-on-failure=false")
}
