package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/envelope"
	"github.com/anteroom-proxy/anteroom/rekey"
	"github.com/anteroom-proxy/anteroom/session"
)

// A certificate storage that lies in another place than the store (another server, another prefix, or a store that is embedded)
// has a ring of data keys of its own. Operations on it have a journal and reports of their own, in that place, so that every node
// which shares the storage can go on with them, whatever its store.

// ringStorage names that ring in orders, and in front of the names of its keys: storage/5f0c9a4be1d27380.
const ringStorage = "storage"

// storageDesk is what a running config does with operations on that ring. nil: there is none.
type storageDesk struct {
	files  *redisFiles
	cancel func()
	done   chan struct{}

	mu     sync.Mutex // guards the fields below
	client redisClient
	op     *rekey.Operator // nil: the storage has not answered yet
	failed error           // and why
}

// certificates is the certificate storage, when it is one of ours.
func (a *App) certificates() (files *redisFiles, ok bool) {
	if a.ctx.Context != nil {
		files, ok = a.ctx.Storage().(*redisFiles)
	}
	return files, ok
}

// storageElsewhere is a certificate storage whose ring is not the store's, nil when there is none.
func (a *App) storageElsewhere() *redisFiles {
	files, ok := a.certificates()
	if !ok || files.place == a.storeFrom.Name(a.Directory) {
		return nil
	}
	return files
}

// noteCertificates tells what a leaked data key of a certificate storage means.
const noteCertificates = "Private keys of certificates and of accounts at certificate authorities had been sealed by the compromised key. They were sealed anew, but whoever had the old key may have read them: " +
	"write another `prefix` into `storage anteroom_redis` on all nodes and reload, so that every certificate is obtained anew with a new private key, and revoke the old ones at the authority. " +
	"Where a password ring is wrapped by such a TLS key, run `anteroom keys compromised` for that one as well."

// openStorageDesk connects in the background and carries operations out until stop is called. What is asked of a storage that does
// not answer says so; nothing else waits for it.
func (a *App) openStorageDesk(st openStore, log audit.Recorder) (*storageDesk, error) {
	files := a.storageElsewhere()
	if files == nil {
		return nil, nil
	}
	ref, err := take[redisClient](files.client)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &storageDesk{files: files, cancel: cancel, done: make(chan struct{}), failed: errors.New("it is being connected to")}
	c := rekey.Config{
		KeyOf: envelope.KeyOf, LabelOf: labelOf, Never: neverOpens, First: session.SealedFirst(), Audit: log, Node: keyNode(), Turn: keyTurn(files.place),
		Place: "the certificate storage, " + files.name, Exposed: []string{noteCertificates}, Timing: rekey.Timing{Logger: poolLogger("keys")},
		NoMaster: "the certificate storage " + files.name + " is shared by several nodes: make a new key file or KMS key, write it with the old one as `former` into the lines `master` of `storage anteroom_redis` on every node, restart them, and run `anteroom keys migrate`",
	}
	if files.master == a.from().Key(a.Directory) {
		c.PutAway = func(remove bool) (string, error) { return a.putAway(st, s, remove) }
	}
	go func() {
		defer close(s.done)
		defer func() {
			if err := ref.release(); err != nil {
				a.logger.Error("closing the certificate storage", "error", err)
			}
		}()
		s.run(ctx, ref, c)
	}()
	return s, nil
}

// run connects, tries again until that works, and follows the journal.
func (s *storageDesk) run(ctx context.Context, ref reference[redisClient], c rekey.Config) {
	for {
		client, err := ref.open(s.files.connect)
		if err == nil && client.master != s.files.master {
			err = errMasters
		}
		var op *rekey.Operator
		if err == nil {
			c.Store, c.Sealed, c.Own = client.Store, client.Store, dataKeys{client.envelope}
			op, err = rekey.New(c)
		}
		s.mu.Lock()
		s.client, s.op, s.failed = client, op, err
		s.mu.Unlock()
		if err == nil {
			op.Follow(ctx)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(redisRest):
		}
	}
}

// stop may be called again. It does not wait for a server that does not answer.
func (s *storageDesk) stop() {
	if s == nil {
		return
	}
	s.cancel()
	if _, err := s.now(); err == nil {
		<-s.done
	}
}

// now is what carries operations out.
func (s *storageDesk) now() (*rekey.Operator, error) {
	if s == nil {
		return nil, &adminProblem{http.StatusNotFound, "not-found", "There is no certificate storage with data keys of its own: `storage anteroom_redis` is not configured, or its keys are those of the store, which `anteroom keys status` lists."}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.op == nil {
		return nil, &adminProblem{http.StatusServiceUnavailable, "unavailable", fmt.Sprintf("The certificate storage %s does not answer, and nothing was changed in it: %v. When it is back, repeat the command.", s.files.name, s.failed)}
	}
	return s.op, nil
}

// keys are the data keys of the ring as this node last saw them.
func (s *storageDesk) keys() []envelope.KeyInfo {
	if _, err := s.now(); err != nil {
		return nil
	}
	return s.client.envelope.Keys()
}

// has says whether a data key of that id is in the ring.
func (s *storageDesk) has(id string) bool {
	for _, k := range s.keys() {
		if k.ID == id {
			return true
		}
	}
	return false
}

// needs says why a key file must stay, "" when nothing here needs it.
func (s *storageDesk) needs(master string) string {
	if s == nil {
		return ""
	}
	if _, err := s.now(); err != nil {
		return "the certificate storage " + s.files.name + " does not answer, and its data keys may be under it; repeat the command when it is back"
	}
	for _, k := range s.keys() {
		if k.Master == master && !strings.HasPrefix(k.ID, "v1:") {
			return "the data key storage/" + k.ID + " is under it"
		}
	}
	return ""
}

// storageStatus is the ring in the answer of keys/status.
type storageStatus struct {
	Name    string `json:"name"`
	Problem string `json:"problem,omitempty"` // why there is nothing else here
	*rekey.Status
}

func (s *storageDesk) status(ctx context.Context) *storageStatus {
	if s == nil {
		return nil
	}
	answer := &storageStatus{Name: s.files.name}
	o, err := s.now()
	if err == nil {
		answer.Status, err = o.Status(ctx)
	}
	if err != nil {
		answer.Problem = err.Error()
	}
	return answer
}
