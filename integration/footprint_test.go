package integration

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestFootprint: the product and the demo write into the folders that they were given and nowhere else: not into the home of
// whoever starts them, and above all not into the machine's trust store.
func TestFootprint(t *testing.T) {
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	watched := []string{"/etc/ssl/certs", "/usr/local/share/ca-certificates", "/usr/share/ca-certificates", "/etc/ca-certificates", "/etc/pki",
		filepath.Join(home, ".local/share/caddy"), filepath.Join(home, ".config/caddy"), filepath.Join(home, ".pki"), filepath.Join(home, ".local/share/anteroom-demo"),
		filepath.Join(root, "cmd"), filepath.Join(root, "caddy"), filepath.Join(root, "integration/op")}
	before := map[string]string{}
	for _, dir := range watched {
		before[dir] = listing(t, dir)
	}

	r := newRig(t, standard)
	r.person(t, appHost, "dana")
	onlyBelow(t, r.proc, r.dir)
	d := startDemo(t)
	newBrowser(t, d.ca).signInDemo(t, d.url("eps.localhost", "/"), "doctor")
	onlyBelow(t, d.proc, filepath.Dir(d.dir))

	for _, dir := range watched {
		if after := listing(t, dir); after != before[dir] {
			t.Errorf("%s changed:\n%s\nwas\n%s", dir, after, before[dir])
		}
	}
	for _, dir := range []string{r.dir, d.dir} {
		private(t, dir)
	}
}

// onlyBelow checks the files that a process holds open for writing.
func onlyBelow(t *testing.T, p *process, dir string) {
	t.Helper()
	links, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "fd", "*"))
	if err != nil || len(links) == 0 {
		t.Fatalf("no open files of %s: %v", p.name, err)
	}
	seen := 0
	for _, link := range links {
		target, err := os.Readlink(link)
		info, statErr := os.Lstat(link)
		if err != nil || statErr != nil || !strings.HasPrefix(target, "/") || info.Mode().Perm()&0o200 == 0 || strings.HasPrefix(target, "/dev/") || target == p.logPath {
			continue
		}
		seen++
		if !strings.HasPrefix(target, dir+"/") {
			t.Errorf("%s writes %s", p.name, target)
		}
	}
	if seen == 0 {
		t.Errorf("%s holds no file open below %s: the check saw nothing", p.name, dir)
	}
}

// private checks that keys, sessions and records are for their owner only.
func private(t *testing.T, dir string) {
	t.Helper()
	seen := 0
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name := entry.Name()
		if strings.HasSuffix(name, ".key") || strings.HasSuffix(name, ".db") || strings.HasSuffix(name, ".jsonl") || strings.Contains(name, "token") ||
			strings.Contains(name, "master") || strings.HasSuffix(name, ".bolt") {
			seen++
			info, err := entry.Info()
			if err != nil {
				return err
			}
			if info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s has the mode %v", path, info.Mode())
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 3 {
		t.Errorf("only %d secret files below %s: the check saw nothing", seen, dir)
	}
}

// listing is a folder's entries with sizes and times; a folder that is not there has none.
func listing(t testing.TB, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return "(absent)"
	}
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil {
			b.WriteString(entry.Name() + " " + strconv.Itoa(int(info.Size())) + " " + info.ModTime().String() + "\n")
		}
	}
	return b.String()
}
