package session

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
	"github.com/anteroom-proxy/anteroom/store/redis"
	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

// onRedis starts nodes that share a real Redis, each with a client of its own.
func onRedis(t *testing.T, server *redistest.Server, sealer Sealer, n int, now func() time.Time) (nodes []*Manager) {
	t.Helper()
	for range n {
		s, err := redis.Open(t.Context(), redis.Config{
			Addresses: server.Addresses, Sealer: sealer, Now: now, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		nodes = append(nodes, start(t, s, sealer, now))
	}
	return nodes
}

// CVE-2024-21492, S9 and limits on three nodes with real Redis between them: signing
// out at one is signing out at all at once: within a tenth of a second where nothing else
// runs.
func TestOnRedis(t *testing.T) {
	server := redistest.Standalone(t)
	nodes := onRedis(t, server, openSealer(t, t.TempDir()), 3, nil)
	var took []time.Duration
	for range 200 {
		s, cookies := issue(t, nodes[0])
		for _, m := range nodes {
			wantFound(t, m, lines(cookies))
		}
		began := time.Now()
		if err := nodes[2].Revoke(t.Context(), s.ID); err != nil {
			t.Fatal(err)
		}
		for _, m := range nodes {
			eventually(t, "the sign-out", func() bool { _, err := m.Find(lines(cookies), host); return errors.Is(err, ErrNone) })
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("sign-outs: median %v, p99 %v", took[len(took)/2], took[len(took)*99/100])
	if median := took[len(took)/2]; median > pollEvery/4 { // nobody woke the followers; the slowest ones are the machine's
		t.Errorf("median %v", median)
	}

	s, cookies := issue(t, nodes[0])
	tokens := make([]string, 30)
	var all sync.WaitGroup
	for i := range tokens {
		all.Go(func() {
			n, err := nodes[i%3].renewShared(t.Context(), &Session{Grant: s.Grant, ID: s.ID, Audience: s.Audience, Issuer: s.Issuer, Started: s.Started, context: s.context, idle: s.idle}, host)
			if err != nil {
				t.Error(err)
				return
			}
			tokens[i] = n.token
		})
	}
	all.Wait()
	for _, token := range tokens {
		if token != tokens[0] {
			t.Error("two tokens from one rotation")
		}
	}
	wantFound(t, nodes[1], line(tokens[0], cookies[1].Value))
	// Row 164: what a copy of the database shows.
	for name, secret := range map[string]string{"sid": s.ID, "username": "dana", "name": "Dana", "subject": s.Subject, "token": tokens[0][:50]} {
		if strings.Contains(string(server.Dump()), secret) {
			t.Errorf("%s shows in the database", name)
		}
	}
}

// A Redis that lost its feed gets back what the nodes know; a restarted one loses
// nothing; a node whose clock is wrong lets nobody in.
func TestRedisSetBack(t *testing.T) {
	server := redistest.Standalone(t)
	sealer := openSealer(t, t.TempDir())
	nodes := onRedis(t, server, sealer, 2, nil)
	s, cookies := issue(t, nodes[0])
	_, others := issue(t, nodes[1])
	if err := nodes[0].Revoke(t.Context(), s.ID); err != nil {
		t.Fatal(err)
	}
	nodes[1].follow()
	server.Kill()
	server.Start()
	eventually(t, "the nodes hear it again", func() bool { nodes[0].follow(); return !nodes[0].follows.failingNow() })
	check := func(m *Manager) {
		t.Helper()
		wantNone(t, m, lines(cookies))
		wantFound(t, m, lines(others))
	}
	check(nodes[0])
	check(onRedis(t, server, sealer, 1, nil)[0])

	feed := ""
	for key := range strings.FieldsSeq(server.Do("KEYS", "*feed*")) {
		feed = key
		server.Do("DEL", key)
	}
	if feed == "" {
		t.Fatal("no feed")
	}
	eventually(t, "a new node knows it", func() bool {
		m := onRedis(t, server, sealer, 1, nil)[0]
		defer m.Close()
		_, err := m.Find(lines(cookies), host)
		return errors.Is(err, ErrNone)
	})
	for _, ahead := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		m := onRedis(t, server, sealer, 1, func() time.Time { return time.Now().Add(ahead) })[0]
		if _, _, err := signIn(t, m, Admission{}); !errors.Is(err, ErrStale) || m.Health().Skew.Round(time.Second) != -ahead {
			t.Errorf("%v: %v, %v", ahead, err, m.Health().Skew)
		}
	}
	if _, ok := nodes[0].store.(store.Clock); !ok {
		t.Error("Redis has no clock")
	}
}

func (f *follower) failingNow() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failing
}
