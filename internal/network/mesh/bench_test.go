package mesh

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skiff-sh/skiff/internal/netns/netnstest"
)

// What paths between Pods carry, in one TCP connection, beside a plain veth pair.
// Links hand on whole buffers, as network cards do that cut them into packets
// themselves; the relay's switch is in this process.
func BenchmarkThroughput(b *testing.B) {
	b.Run("veth", func(b *testing.B) {
		one := netnstest.Namespace(b)
		plug(b, one, "plain", "198.18.0.2/24", "")
		sh(b, "", "ip addr add 198.18.0.1/24 dev plain; ip link set plain gso_max_segs 65535")
		b.Cleanup(func() { sh(b, "", "ip link del plain") })
		sink(b, one)
		stream(b, "", "198.18.0.2")
	})
	l := newLab(b, "a", "b")
	l.settled()
	for name, m := range l.byName {
		sh(b, "", "ip link set to-"+name+" gso_max_segs 65535")
		sh(b, m.ns, "ip link set eth0 gso_max_segs 65535")
	}
	sink(b, l.pod["b"])
	for _, path := range []struct{ name, before string }{
		{"direct", ""},
		{"vxlan", `nft add table ip cloud; nft 'add chain ip cloud out { type filter hook postrouting priority 500; }'
			nft add rule ip cloud out oif eth0 ip daddr 10.42.0.0/16 drop`},
		{"relay", "nft add rule ip cloud out udp dport 8472 drop"},
	} {
		if path.before != "" {
			sh(b, l.byName["a"].ns, path.before)
			sh(b, l.byName["b"].ns, path.before)
		}
		l.paths("ab "+path.name, "ba "+path.name)
		b.Run(path.name, func(b *testing.B) { stream(b, l.pod["a"], l.ip["b"]) })
	}
}

// sink takes what comes on port 9 of the namespace, and tells when that was all.
func sink(b *testing.B, ns string) {
	var listener net.Listener
	netnstest.In(b, ns, func() (err error) { listener, err = net.Listen("tcp4", ":9"); return err })
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			n, _ := io.Copy(io.Discard, c)
			fmt.Fprintln(c, n)
			c.Close()
		}
	})
	b.Cleanup(func() { listener.Close(); serving.Wait() })
}

func stream(b *testing.B, from, to string) {
	const chunk = 1 << 20
	c, err := netnstest.Dial(from, "tcp", to+":9")
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	data := make([]byte, chunk)
	b.SetBytes(chunk)
	b.ResetTimer()
	for range b.N {
		if _, err := c.Write(data); err != nil {
			b.Fatal(err)
		}
	}
	_ = c.(*net.TCPConn).CloseWrite()
	if answer, err := io.ReadAll(c); err != nil || strings.TrimSpace(string(answer)) != strconv.Itoa(b.N*chunk) {
		b.Fatalf("%s of %d bytes came, %v", answer, b.N*chunk, err)
	}
}

// What a node's mesh costs that is told nothing: its processor time in two
// minutes, with this many others on paths that are checked.
func BenchmarkIdle(b *testing.B) {
	for _, peers := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(peers), func(b *testing.B) {
			l := newLab(b, "a", "b")
			a, other := l.byName["a"], l.byName["b"]
			other.stop(b)
			a.stop(b)
			a.usual, a.nodes = true, l.nodes()[:0]
			var script strings.Builder
			a.nodes = append(a.nodes, node("a", a.address, a.podCIDR))
			for i := range peers { // all on one machine
				share := fmt.Sprintf("10.42.%d.%d", 4+i/16, i%16*16)
				a.nodes = append(a.nodes, node(fmt.Sprint("peer-", i), other.address, share+"/28"))
				fmt.Fprintf(&script, "ip addr add %s/32 dev lo\n", share)
			}
			sh(b, other.ns, script.String()+"ip route replace 10.42.0.0/24 via 192.0.2.1")
			a.start(b)
			for i := range peers {
				if i%100 == 0 {
					l.on("a", fmt.Sprint("peer-", i), Direct)
				}
			}
			<-time.After(5 * time.Second) // past the tests
			before, began := cpu(b, a.cmd.Process.Pid), time.Now()
			for range b.N {
				<-time.After(2 * time.Minute)
			}
			used, took := cpu(b, a.cmd.Process.Pid)-before, time.Since(began)
			b.ReportMetric(float64(used.Microseconds())/took.Minutes(), "cpu-us/min")
			b.ReportMetric(100*used.Seconds()/took.Seconds(), "%cpu")
		})
	}
}

// cpu is the processor time of a process, from its scheduler.
func cpu(b *testing.B, pid int) (sum time.Duration) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		b.Fatal(err)
	}
	for _, t := range tasks {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", pid, t.Name()))
		if err != nil {
			continue
		}
		ns, _ := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
		sum += time.Duration(ns)
	}
	return sum
}
