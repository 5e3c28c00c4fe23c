package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAgentSettings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("K10abc::d\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		agent  Agent
		server string // of the first
		token  string
		want   string // "": no error
	}{
		"port":              {agent: Agent{Servers: []string{"https://192.0.2.1"}}, server: "https://192.0.2.1:6443"},
		"own port":          {agent: Agent{Servers: []string{"https://box:7443/"}}, server: "https://box:7443"},
		"IPv6":              {agent: Agent{Servers: []string{"https://[2001:db8::1]"}}, server: "https://[2001:db8::1]:6443"},
		"none":              {want: "server: expected the cluster's address"},
		"HTTP":              {agent: Agent{Servers: []string{"http://box"}}, want: `server "http://box": expected https://HOST:PORT`},
		"with a path":       {agent: Agent{Servers: []string{"https://box/api"}}, want: `server "https://box/api"`},
		"second":            {agent: Agent{Servers: []string{"https://a", "b"}}, want: `server "b"`},
		"token":             {agent: Agent{Servers: []string{"https://a"}, Token: " x\n"}, token: "x"},
		"token's file":      {agent: Agent{Servers: []string{"https://a"}, TokenFile: file}, token: "K10abc::d"},
		"both":              {agent: Agent{Servers: []string{"https://a"}, Token: "x", TokenFile: file}, want: "token and token-file are both set: keep one"},
		"the file has gone": {agent: Agent{Servers: []string{"https://a"}, TokenFile: file + "x"}},
		"no file to read":   {agent: Agent{Servers: []string{"https://a"}, TokenFile: t.TempDir()}, want: "token-file: read"},
		"name no Node has":  {agent: Agent{Servers: []string{"https://a"}, Node: Node{NodeName: "A_b"}}, want: `node-name "A_b"`},
	} {
		t.Run(name, func(t *testing.T) {
			a := c.agent
			if a.NodeName == "" {
				a.NodeName = "n1"
			}
			err := a.Validate()
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || a.Token != c.token || c.server != "" && a.Servers[0] != c.server {
				t.Errorf("%v: %+v", err, a)
			}
		})
	}
}
