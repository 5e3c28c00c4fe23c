// Skiff is Kubernetes for one box and its neighbours, in one executable.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/skiff-sh/skiff/internal/cli"
)

func main() {
	if err := cli.New(os.Stdout).ExecuteContext(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "skiff:", err)
		os.Exit(1)
	}
}
