package caddymodule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/spf13/cobra"
)

// command runs a command of ours in this process and returns what it prints.
func command(t *testing.T, c *cobra.Command, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c.SetOut(&out)
	c.SetErr(&out)
	c.SilenceErrors = true
	c.SetArgs(args)
	err := c.ExecuteContext(t.Context())
	return out.String(), err
}

// TestSessionsCommands: an operator sees who is signed in and ends it, and a mistyped name or id is an error.
func TestSessionsCommands(t *testing.T) {
	r := newAdminRig(t)
	load(t, withAdmin(t, r.config(0), r.adminSocket()))
	at := "--address=" + r.adminSocket()
	if out, err := command(t, sessionsListCommand(), at); err != nil || out != "Nobody is signed in.\n" {
		t.Errorf("an empty list: %q %v", out, err)
	}
	first, cookies := r.signIn()
	second, others := r.signIn()
	out, err := command(t, sessionsListCommand(), at)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if err != nil || len(lines) != 3 || !strings.HasPrefix(lines[0], "ID ") {
		t.Fatalf("list: %q %v", out, err)
	}
	for _, want := range []string{audit.SessionLabel(first.ID), audit.SessionLabel(second.ID), "dana", "idp", "doctor", "app.test", first.Started.Local().Format("2006-01-02"), first.Started.Local().Format("MST")} {
		if !strings.Contains(out, want) {
			t.Errorf("the list lacks %q:\n%s", want, out)
		}
	}
	column := strings.Index(lines[0], "ROLES")
	if !strings.HasPrefix(lines[1][column:], "doctor") || !strings.HasPrefix(lines[2][column:], "doctor") {
		t.Errorf("the table is not aligned:\n%s", out)
	}
	var list sessionList
	out, err = command(t, sessionsListCommand(), at, "--json", "--user", "dana")
	if err != nil || json.Unmarshal([]byte(out), &list) != nil || len(list.Sessions) != 2 || list.Sessions[0].Since.Location() != time.UTC {
		t.Errorf("list --json: %s %v", out, err)
	}
	if out, err := command(t, sessionsListCommand(), at, "--user", "nobody"); err != nil || out != "Nobody of that username is signed in.\n" {
		t.Errorf("list --user nobody: %q %v", out, err)
	}

	if out, err := command(t, sessionsEndCommand(), at, "--", audit.SessionLabel(first.ID)); err != nil || out != "The session is over.\n" {
		t.Fatalf("end: %q %v", out, err)
	}
	if status, _, _ := r.get(r.client(), cookies); status != http.StatusUnauthorized {
		t.Errorf("the ended session gets %d", status)
	}
	if status, _, _ := r.get(r.client(), others); status != http.StatusOK {
		t.Errorf("the other session gets %d", status)
	}
	for _, id := range []string{audit.SessionLabel(first.ID), "nope", second.ID} {
		if _, err := command(t, sessionsEndCommand(), at, "--", id); err == nil || !strings.Contains(err.Error(), "No session of that id lives") {
			t.Errorf("end %s: %v", id, err)
		}
	}
	if _, err := command(t, sessionsEndUserCommand(), at, "dan"); err == nil || !strings.Contains(err.Error(), "as `sessions list` shows it") {
		t.Errorf("end-user of a mistyped name: %v", err)
	}
	if out, err := command(t, sessionsEndUserCommand(), at, "--source", "idp", "--subject", "1"); err != nil || out != "Sessions ended: 1.\n" {
		t.Errorf("end-user: %q %v", out, err)
	}
	if status, _, _ := r.get(r.client(), others); status != http.StatusUnauthorized {
		t.Errorf("the ended person's session gets %d", status)
	}
	_, again := r.signIn()
	if status, _, _ := r.get(r.client(), again); status != http.StatusOK {
		t.Errorf("a new sign-in of that person gets %d", status)
	}
	for _, args := range [][]string{{}, {""}, {"dana", "--source", "idp"}, {"--source", "idp"}, {"--subject", "1"}} {
		if _, err := command(t, sessionsEndUserCommand(), append(args, at)...); err == nil || !strings.Contains(err.Error(), "--source SOURCE and --subject SUBJECT") {
			t.Errorf("end-user %q: %v", args, err)
		}
	}
}

// TestKeysCommands: keys are listed, a rotation signs nobody out, a killed key's sessions are over at once.
func TestKeysCommands(t *testing.T) {
	r := newAdminRig(t)
	listen := freeAddress(t, "127.0.0.1")
	load(t, withAdmin(t, r.config(0), listen))
	at := "--address=" + listen
	_, cookies := r.signIn()
	out, err := command(t, keysListCommand(), at)
	if err != nil || strings.Count(out, "signing") < 2 || !strings.Contains(out, "session") || !strings.Contains(out, "assertion") {
		t.Fatalf("list: %q %v", out, err)
	}
	if out, err := command(t, keysRotateCommand(), at); err != nil || strings.Count(out, "next") != 2 {
		t.Errorf("rotate: %q %v", out, err)
	}
	if status, _, _ := r.get(r.client(), cookies); status != http.StatusOK {
		t.Errorf("after a rotation the session gets %d", status)
	}
	var list keyList
	out, err = command(t, keysListCommand(), at, "--json")
	if err != nil || json.Unmarshal([]byte(out), &list) != nil || len(list.Keys) != 4 {
		t.Fatalf("list --json: %s %v", out, err)
	}
	if _, err := command(t, keysKillCommand(), at, "--", "no-such-key"); err == nil || !strings.Contains(err.Error(), "no signing key of that name") {
		t.Errorf("killing a key that is not there: %v", err)
	}
	for _, k := range list.Keys {
		if k.Use == "session" && k.State == "signing" {
			if out, err := command(t, keysKillCommand(), at, "--", k.KID); err != nil || strings.Contains(out, k.KID) || !strings.Contains(out, "signing") {
				t.Errorf("kill: %q %v", out, err)
			}
		}
	}
	if status, _, _ := r.get(r.client(), cookies); status != http.StatusUnauthorized {
		t.Errorf("a session of the killed key gets %d", status)
	}
	_, again := r.signIn()
	if status, _, _ := r.get(r.client(), again); status != http.StatusOK {
		t.Errorf("a new sign-in gets %d", status)
	}
}

// TestAdminCommandErrors: what an operator reads when there is nothing to ask.
func TestAdminCommandErrors(t *testing.T) {
	b := newBench(t)
	refusing := freeAddress(t, "127.0.0.1")
	if _, err := command(t, sessionsListCommand(), "--address", refusing); err == nil || !strings.Contains(err.Error(), "nothing answers at "+refusing) || !strings.Contains(err.Error(), "--address") {
		t.Errorf("nothing runs: %v", err)
	}
	off := b.write(t, "off.Caddyfile", "{\n\tadmin off\n}\n")
	if _, err := command(t, keysListCommand(), "--config", off); err == nil || !strings.Contains(err.Error(), "`admin off`") || !strings.Contains(err.Error(), "unix//run/anteroom/admin.sock") {
		t.Errorf("admin off: %v", err)
	}
	if _, err := command(t, keysListCommand(), "--config", b.dir+"/none"); err == nil || !strings.Contains(err.Error(), b.dir+"/none") {
		t.Errorf("no such config: %v", err)
	}
	if err := saidBy("unix//run/x", errors.New("performing request: dial unix /run/x: connect: permission denied")); !strings.Contains(err.Error(), "this user may not open") {
		t.Errorf("a socket of another user: %v", err)
	}
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	on := b.write(t, "on.Caddyfile", fmt.Sprintf("{\n\tadmin %s\n}\n", other.Listener.Addr()))
	if _, err := command(t, sessionsListCommand(), "--config", on, "--adapter", "caddyfile"); err == nil || !strings.Contains(err.Error(), "has no admin API of anteroom") {
		t.Errorf("another program: %v", err)
	}
	for _, body := range []string{"\x1b[2J\x07", `{"type":"urn:anteroom:problem:internal","detail":"\u001b[2J\u0007"}`} {
		hostile := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusTeapot)
			_, _ = io.WriteString(w, body)
		}))
		defer hostile.Close()
		if _, err := command(t, sessionsListCommand(), "--address", hostile.Listener.Addr().String()); err == nil || !strings.Contains(err.Error(), "?[2J?") {
			t.Errorf("control characters reach the terminal: %q", err)
		}
	}
}

// TestRow181TerminalInjection: a person's name cannot act on the operator's terminal or forge a line of the table.
func TestRow181TerminalInjection(t *testing.T) {
	c := new(cobra.Command)
	var out bytes.Buffer
	c.SetOut(&out)
	evil := "dana\x1b]0;x\x07\n0000 root\u202e\u2028\x9b31m"
	if err := printSessions(c, sessionList{Sessions: []sessionEntry{{ID: "id", User: evil, Source: evil, Roles: []string{evil}, Sites: []string{evil}, Browser: evil, System: evil}}}); err != nil {
		t.Fatal(err)
	}
	if strings.Count(out.String(), "\n") != 2 || regexp.MustCompile("[^\n -~]").MatchString(out.String()) {
		t.Errorf("%q", out.String())
	}
}

// TestCommandHelp: each command explains itself in sentences and shows how it is called.
func TestCommandHelp(t *testing.T) {
	explain := new(cobra.Command)
	explainCommand(explain)
	for _, c := range []*cobra.Command{sessionsListCommand(), sessionsEndCommand(), sessionsEndUserCommand(), keysListCommand(), keysRotateCommand(), keysKillCommand(), keysStatusCommand(), keysCompromisedCommand(), keysMigrateCommand(), keysReportCommand(), keysDestroyCommand(), explain} {
		if c.Name() != "explain" && (!strings.HasSuffix(c.Long, ".") || c.Short == "") {
			t.Errorf("%s: %q", c.Name(), c.Long)
		}
		if !strings.Contains(c.Example, "  anteroom ") || !strings.Contains(c.Example, " "+c.Name()) {
			t.Errorf("%s has no example: %q", c.Name(), c.Example)
		}
	}
	// At three in the morning the help is what there is: every kind of key is in it, as it is to be written.
	for _, c := range []struct {
		command *cobra.Command
		words   []string
	}{
		{keysCompromisedCommand(), []string{"storage/", "client/NAME", "ring/p3", "`master`", "--dry-run", "--force", "--yes", "run the command again"}},
		{keysRotateCommand(), []string{"signing", "data", "storage", "master", "ring", "client NAME", "--activate", "--force", "--dry-run"}},
		{keysMigrateCommand(), []string{"--remove", "restarted", "certificate storage"}},
		{keysStatusCommand(), []string{"storage/", "identity providers", "--json"}},
		{keysReportCommand(), []string{"--html", "--watch", "--list"}},
		{keysDestroyCommand(), []string{"--force", "census", "keys compromised"}},
	} {
		text := c.command.Long + "\n" + c.command.UsageString()
		for _, word := range c.words {
			if !strings.Contains(text, word) {
				t.Errorf("the help of %s lacks %q", c.command.Name(), word)
			}
		}
	}
}
