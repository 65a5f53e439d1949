package session

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/envelope"
	"github.com/anteroom-proxy/anteroom/store/bolt"
)

const killDir = "ANTEROOM_SESSION_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killDir); dir != "" {
		if err := revokeForever(dir); err != nil {
			fmt.Println("error", err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// revokeForever issues sessions and revokes every second one, and says which once
// Revoke has returned.
func revokeForever(dir string) error {
	s, err := bolt.Open(bolt.Config{Path: dir + "/store/test.db"})
	if err != nil {
		return err
	}
	master, err := envelope.OpenLocal(dir + "/master/key")
	if err != nil {
		return err
	}
	sealer, err := envelope.Start(context.Background(), envelope.Config{Name: "own", Master: master, Store: s})
	if err != nil {
		return err
	}
	m, err := New(Config{Store: s, Sealer: sealer})
	if err != nil {
		return err
	}
	ctx := context.Background()
	if err := m.Start(ctx); err != nil {
		return err
	}
	for i := 0; ; i++ {
		session, cookies, err := m.Issue(ctx, grant(), host, Admission{})
		if err != nil {
			return err
		}
		word := "kept"
		if i%2 == 0 {
			word = "revoked"
			if err := m.Revoke(ctx, session.ID); err != nil {
				return err
			}
		}
		fmt.Println(word, cookies[0].Value, cookies[1].Value)
	}
}

// A revocation that was acknowledged survives a kill -9 at any moment.
func TestKillLosesNoRevocation(t *testing.T) {
	dir := t.TempDir()
	type half struct{ token, context string }
	var revoked, kept []half
	for round := range 6 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), killDir+"="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		scanner := bufio.NewScanner(out)
		for n := 0; scanner.Scan(); n++ {
			fields := strings.Fields(scanner.Text())
			if len(fields) != 3 {
				t.Fatalf("child: %s", scanner.Text())
			}
			h := half{fields[1], fields[2]}
			if fields[0] == "revoked" {
				revoked = append(revoked, h)
			} else {
				kept = append(kept, h)
			}
			if n == 5+13*round { // what was written until the kill is read as well
				if err := child.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := child.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
	}
	s := openStore(t, dir, nil)
	m := start(t, s, sealerIn(t, dir, s), time.Now)
	for _, h := range revoked {
		wantNone(t, m, line(h.token, h.context))
	}
	for _, h := range kept {
		wantFound(t, m, line(h.token, h.context))
	}
	if len(revoked) < 30 || len(kept) < 30 {
		t.Errorf("%d revoked, %d kept: too few to mean something", len(revoked), len(kept))
	}
}
