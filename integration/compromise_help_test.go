package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/envelope"
	"github.com/anteroom-proxy/anteroom/rekey"
	sessions "github.com/anteroom-proxy/anteroom/session"
	"github.com/anteroom-proxy/anteroom/store"
	"github.com/anteroom-proxy/anteroom/store/bolt"
)

// disk is the data of a node that does not run, opened with the product's own packages.
type disk struct {
	store    store.Store
	envelope *envelope.Envelope
}

// openDisk opens a folder with store.db and master.key; both are made when absent.
func openDisk(t testing.TB, dir string) (*disk, func()) {
	t.Helper()
	master, err := envelope.OpenLocal(filepath.Join(dir, "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := bolt.Open(bolt.Config{Path: filepath.Join(dir, "store.db")})
	if err != nil {
		t.Fatal(err)
	}
	e, err := envelope.Start(t.Context(), envelope.Config{Name: "own", Master: master, Store: s})
	if err != nil {
		t.Fatal(err)
	}
	return &disk{s, e}, func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// fill signs some people in and makes more values of that kind until the store holds so many sealed ones. It returns the cookies of
// one session.
func (d *disk) fill(t testing.TB, values int, host string) *visitor {
	t.Helper()
	m, err := sessions.New(sessions.Config{Store: d.store, Sealer: d.envelope})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	const people, each = 3000, 3 // a session's record, its account's list, and what is kept for its provider
	one := new(visitor)
	parallel(people, func(i int) {
		g := sessions.Grant{Source: "hospital", Subject: fmt.Sprint("s", i), Username: fmt.Sprint("u", i), Name: "Person", Roles: []string{"doctor"}, AuthTime: time.Now()}
		_, cookies, err := m.Issue(context.Background(), g, host, sessions.Admission{Keep: fmt.Appendf(nil, "token of %d", i)})
		if err != nil {
			t.Error(err)
		} else if i == 0 {
			one.header = cookies[0].Name + "=" + cookies[0].Value + "; " + cookies[1].Name + "=" + cookies[1].Value
		}
	})
	expires := time.Now().Add(12 * time.Hour)
	parallel(values-people*each, func(i int) {
		key := fmt.Sprintf("anteroom/session/record/v1/drill-%07d", i)
		sealed, err := d.envelope.Seal(context.Background(), key, fmt.Appendf(nil, `{"sid":"drill-%d","idp":"hospital","sub":"d%d","username":"d%d","roles":["doctor"],"start":1,"seen":1,"exp":2,"end":3}`, i, i, i))
		if err == nil {
			err = d.store.Put(context.Background(), key, sealed, expires)
		}
		if err != nil {
			t.Error(err)
		}
	})
	return one
}

// parallel calls do for 0 to n-1, many at a time: a store that groups its writers makes one fsync of many.
func parallel(n int, do func(int)) {
	var all sync.WaitGroup
	jobs := make(chan int)
	for range 512 {
		all.Go(func() {
			for i := range jobs {
				do(i)
			}
		})
	}
	for i := range n {
		jobs <- i
	}
	close(jobs)
	all.Wait()
}

// visitor is what a browser of one of these people would send.
type visitor struct{ header string }

// sealed are all values of the store that the envelope has sealed, by key.
func (d *disk) sealed(t testing.TB) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for cursor := ""; ; {
		items, next, err := d.store.Scan(context.Background(), "", cursor, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range items {
			if _, ok := sessions.SealedAt(item.Key); ok {
				all[item.Key] = item.Value
			}
		}
		if cursor = next; next == "" {
			return all
		}
	}
}

// opens counts the values that open, of those that sealed returned.
func (d *disk) opens(t testing.TB, values map[string][]byte) (n int) {
	t.Helper()
	for key, v := range values {
		label, _ := sessions.SealedAt(key)
		if _, err := d.envelope.Open(context.Background(), label, v); err == nil {
			n++
		}
	}
	return n
}

// copyDisk copies what a thief would.
func copyDisk(t testing.TB, from, to string) {
	t.Helper()
	if err := os.MkdirAll(to, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"master.key", "store.db"} {
		b, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(to, name), string(b))
	}
}

// admin asks the admin API over its socket.
func (r *rig) askAdmin(method, path, body string) (int, []byte, error) {
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(r.dir, "admin.sock"))
	}}}
	req, err := http.NewRequest(method, "http://localhost/anteroom/"+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, b, err
}

// operation is how far the operation on keys is, nil while nobody answers.
func (r *rig) operation() *rekey.Progress {
	status, b, err := r.askAdmin(http.MethodGet, "keys/operation", "")
	var answer struct{ Operation *rekey.Progress }
	if err != nil || status != http.StatusOK || json.Unmarshal(b, &answer) != nil {
		return nil
	}
	return answer.Operation
}

// keys runs a command about keys.
func (r *rig) keys(t testing.TB, args ...string) result {
	t.Helper()
	return output(t, r.env(), append(append([]string{binary(t, "anteroom"), "keys"}, args...), "--address", r.adminSocket())...)
}

// keyState is what the drills read of keys/status.
type keyState struct {
	Own, Apps []rekey.Key
	Records   map[string]int
	Rings     []struct {
		Name, Primary string
		UpgradeDue    bool `json:"upgrade_due"`
	}
}

func (r *rig) keyState(t testing.TB) keyState {
	t.Helper()
	var s keyState
	res := r.keys(t, "status", "--json")
	if err := json.Unmarshal([]byte(res.stdout), &s); res.code != 0 || err != nil {
		t.Fatalf("keys status: %v, %s%s", err, res.stdout, res.stderr)
	}
	return s
}

func (s keyState) primary(t testing.TB) rekey.Key {
	t.Helper()
	for _, k := range s.Own {
		if k.State == rekey.Primary {
			return k
		}
	}
	t.Fatal("no data key seals")
	return rekey.Key{}
}

func (s keyState) of(id string) string {
	for _, k := range s.Own {
		if k.ID == id {
			return k.State
		}
	}
	return "absent"
}
