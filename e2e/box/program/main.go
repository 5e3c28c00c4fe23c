// Command box is what the tests' containers run where busybox does not do: a
// server, and clients that look up names, speak TLS, and send much at once.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	err := fmt.Errorf("usage: box serve|get|api|lookup|reverse|srv|udp|reach|alloc")
	if len(os.Args) > 1 {
		err = run(os.Args[1], append(os.Args[2:], "", ""))
	}
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

func run(command string, args []string) error {
	switch command {
	case "serve":
		return serve()
	case "get":
		return get(&http.Client{Timeout: 5 * time.Second}, "GET", args[0], "")
	case "api":
		return api(args[0], args[1])
	case "lookup":
		addresses, err := net.DefaultResolver.LookupHost(context.Background(), args[0])
		slices.Sort(addresses)
		fmt.Println(strings.Join(addresses, " "))
		return err
	case "reverse":
		names, err := net.DefaultResolver.LookupAddr(context.Background(), args[0])
		fmt.Println(strings.Join(names, " "))
		return err
	case "srv":
		_, records, err := net.DefaultResolver.LookupSRV(context.Background(), "", "", args[0])
		for _, r := range records {
			fmt.Println(r.Port, r.Target)
		}
		return err
	case "udp":
		return udp(args[0], args[1])
	case "reach":
		return reach(args)
	case "alloc":
		return alloc(args[0])
	}
	return fmt.Errorf("unknown command %q", command)
}

// serve answers HTTP on 8080 and UDP on 8081: who it is and whom it sees. On TCP
// 8082 it gives back what it gets. /ok tells whether the file /tmp/broken is absent, /ready whether /tmp/ready
// is there.
func serve() error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	packets, err := net.ListenPacket("udp4", ":8081")
	if err != nil {
		return err
	}
	if err := echo(); err != nil {
		return err
	}
	go func() {
		buf := make([]byte, 1<<16)
		for {
			n, from, err := packets.ReadFrom(buf)
			if err != nil {
				return
			}
			fmt.Println("udp from", from)
			packets.WriteTo([]byte(name+" "+string(buf[:n])), from)
		}
	}()
	exists := func(path string, want bool) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if _, err := os.Stat(path); (err == nil) != want {
				http.Error(w, path, http.StatusInternalServerError)
			}
		}
	}
	http.HandleFunc("/ok", exists("/tmp/broken", false))
	http.HandleFunc("/ready", exists("/tmp/ready", true))
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprintf(w, "%s %s", name, host)
	})
	fmt.Println("serving")
	return http.ListenAndServe(":8080", nil)
}

func get(client *http.Client, method, url, token string) error {
	request, err := http.NewRequest(method, url, nil)
	if err != nil {
		return err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if token != "" {
		fmt.Println(response.StatusCode)
	}
	_, err = io.Copy(os.Stdout, response.Body)
	return err
}

// api calls the cluster's API as any program in a Pod does.
func api(method, path string) error {
	const account = "/var/run/secrets/kubernetes.io/serviceaccount/"
	ca, err := os.ReadFile(account + "ca.crt")
	if err != nil {
		return err
	}
	token, err := os.ReadFile(account + "token")
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	host := net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
	return get(client, method, "https://"+host+path, string(token))
}

func udp(address, text string) error {
	c, err := net.Dial("udp4", address)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Write([]byte(text)); err != nil {
		return err
	}
	buf := make([]byte, 1<<16)
	n, err := c.Read(buf)
	fmt.Println(string(buf[:n]))
	return err
}

// alloc uses memory, a MiB at a time, until it has all or is killed.
func alloc(size string) error {
	n, err := strconv.Atoi(size)
	if err != nil {
		return err
	}
	var all [][]byte
	for range n {
		block := make([]byte, 1<<20)
		for i := range block {
			block[i] = byte(i)
		}
		all = append(all, block)
	}
	fmt.Println(len(all), "MiB")
	return nil
}
