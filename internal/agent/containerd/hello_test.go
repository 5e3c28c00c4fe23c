package containerd

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/client"
	"github.com/opencontainers/image-spec/identity"

	"github.com/skiff-sh/skiff/embed"
	"github.com/skiff-sh/skiff/internal/agent"
)

// TestHello runs the image that the executable carries, on the host's network.
func TestHello(t *testing.T) {
	n := newNode(t)
	archive, err := embed.Hello()
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	ctx := n.scope(t.Context())
	records, err := n.Client().Import(ctx, archive)
	if err != nil || len(records) != 1 || records[0].Name != embed.HelloImage {
		t.Fatalf("import: %v, %v: expected %s", records, err, embed.HelloImage)
	}
	image := client.NewImage(n.Client(), records[0])
	if err := image.Unpack(ctx, n.Snapshotter()); err != nil {
		t.Fatal(err)
	}
	layers, err := image.RootFS(ctx)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	f := n.follow()
	c := n.run(n.container("", func(c *agent.Container) {
		c.Image = agent.Image{Ref: embed.HelloImage, RootFSChain: identity.ChainID(layers).String()}
		c.Args = []string{"/hello"}
		c.Env = []string{"PORT=" + port, "POD_NAME=hello-1", "NODE_NAME=box"}
		c.User = agent.User{Spec: "65532:65532"}
	}))
	n.waitFor("the server to listen", func() bool { return strings.Contains(n.output(c, "stdout"), "listening") })
	answer, err := http.Get(fmt.Sprintf("http://127.0.0.1:%s/path?x=1", port))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(text), "Hello from Pod hello-1 on node box!\n\nGET /path?x=1 HTTP/1.1\n") {
		t.Errorf("the page: %s", text)
	}
	if err := n.Kill(t.Context(), c.ID, int(syscall.SIGTERM)); err != nil {
		t.Fatal(err)
	}
	if s := f.exit(c.ID); s.ExitCode != 0 {
		t.Errorf("exit code %d on SIGTERM: expected 0", s.ExitCode)
	}
}
