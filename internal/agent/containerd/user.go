package containerd

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/sys/user"

	"github.com/skiff-sh/skiff/internal/agent"
)

// resolveUser looks up what is named of a user in the container's own passwd
// and group files; numbers need none.
func resolveUser(root string, u agent.User) (agent.User, error) {
	if u.Spec == "" {
		return u, nil
	}
	passwd, group := readEtc(root, "passwd"), readEtc(root, "group")
	found, err := user.GetExecUser(u.Spec, &user.ExecUser{}, strings.NewReader(passwd), strings.NewReader(group))
	if err != nil {
		return agent.User{}, err
	}
	out := agent.User{UID: int64(found.Uid), GID: int64(found.Gid), Groups: u.Groups}
	if u.Strict {
		return out, nil
	}
	name, _, _ := strings.Cut(u.Spec, ":")
	members, err := memberships(passwd, group, found.Uid, name)
	if err != nil {
		return agent.User{}, err
	}
	out.Groups = append(members, u.Groups...)
	return out, nil
}

// memberships returns the groups that list the user.
func memberships(passwd, group string, uid int, name string) ([]int64, error) {
	names := map[string]bool{}
	if _, err := strconv.Atoi(name); err != nil && name != "" {
		names[name] = true
	}
	users, err := user.ParsePasswdFilter(strings.NewReader(passwd), func(u user.User) bool { return u.Uid == uid })
	if err != nil {
		return nil, err
	}
	for _, u := range users {
		names[u.Name] = true
	}
	var gids []int64
	_, err = user.ParseGroupFilter(strings.NewReader(group), func(g user.Group) bool {
		for _, member := range g.List {
			if names[member] {
				gids = append(gids, int64(g.Gid))
				break
			}
		}
		return false
	})
	return gids, err
}

// readEtc returns a file of an image, which may be absent. os.Root keeps links
// in an image from leading out of it.
func readEtc(root, name string) string {
	dir, err := os.OpenRoot(root)
	if err != nil {
		return ""
	}
	defer dir.Close()
	data, err := dir.ReadFile(filepath.Join("etc", name))
	if err != nil {
		return ""
	}
	return string(data)
}
