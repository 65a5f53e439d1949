package caddymodule

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/store/redis"
	"github.com/caddyserver/certmagic"
)

// redisRest is how long a failed connection is not tried again: handshakes and renewals ask one after the other, and each would
// wait for the same silence.
const redisRest = 3 * time.Second

// errStorageOver answers whoever still uses the storage of a config that is no more.
var errStorageOver = errors.New("the configuration of this certificate storage is no longer running")

// redisFiles makes a certmagic.Storage of the files in Redis. Its connections are those of the pool, opened at the first call. A
// config counts as in use while a lock is held, so that a certificate that is being obtained when the config is replaced, or when
// the process ends, gives its lock back instead of leaving it to its lease.
type redisFiles struct {
	name    string
	place   string // the data that it works on, whatever the credentials and the master key
	connect func() (redisClient, func() error, error)
	client  string // which connections of the pool
	master  string // settings of the master key; the client's must be the same
	logger  *slog.Logger
	guests  tenancy
	ref     reference[redisClient] // used by guests only

	mu     sync.Mutex // guards the fields below
	files  *redis.Files
	held   map[string]bool // locks
	failed error
	until  time.Time // failed is answered until then
}

// String names the storage in logs, which would show the password else.
func (s *redisFiles) String() string { return s.name }

// close gives the connections back when nobody uses them any more.
func (s *redisFiles) close() {
	s.guests.close(func() {
		if err := s.ref.release(); err != nil {
			s.logger.Error("closing the certificate storage", "error", err)
		}
	}, s.ref.again)
}

// opened returns the files, connecting first when nobody has. The caller is a guest.
func (s *redisFiles) opened() (*redis.Files, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files != nil {
		return s.files, nil
	}
	if s.failed != nil && time.Now().Before(s.until) {
		return nil, s.failed
	}
	client, err := s.ref.open(s.connect)
	if err == nil && client.master != s.master {
		err = errMasters
	}
	if err != nil {
		s.failed, s.until = err, time.Now().Add(redisRest)
		return nil, err
	}
	s.files, s.failed = client.Files(), nil
	return s.files, nil
}

// use calls fn with the files.
func (s *redisFiles) use(fn func(*redis.Files) error) error {
	if !s.guests.enter() {
		return errStorageOver
	}
	defer s.guests.leave()
	files, err := s.opened()
	if err != nil {
		return err
	}
	return fn(files)
}

// Store writes a file.
func (s *redisFiles) Store(ctx context.Context, key string, value []byte) error {
	return s.use(func(f *redis.Files) error { return f.Store(ctx, key, value) })
}

// Load reads a file; one that is absent is fs.ErrNotExist. Anything else that goes wrong is not: Caddy would order a certificate
// for what it only cannot read.
func (s *redisFiles) Load(ctx context.Context, key string) (value []byte, err error) {
	err = s.use(func(f *redis.Files) error {
		value, err = f.Load(ctx, key)
		return err
	})
	return value, err
}

// Delete removes a file, or a folder with all that is in it.
func (s *redisFiles) Delete(ctx context.Context, key string) error {
	return s.use(func(f *redis.Files) error { return f.Delete(ctx, key) })
}

// Exists reports whether there is a file or a folder of that name. certmagic wants false when it cannot be told; before it orders
// a certificate on that, it tries to write to the storage.
func (s *redisFiles) Exists(ctx context.Context, key string) (exists bool) {
	err := s.use(func(f *redis.Files) (err error) {
		exists, err = f.Exists(ctx, key)
		return err
	})
	return exists && err == nil
}

// List returns what is in a folder.
func (s *redisFiles) List(ctx context.Context, path string, recursive bool) (names []string, err error) {
	err = s.use(func(f *redis.Files) error {
		names, err = f.List(ctx, path, recursive)
		return err
	})
	return names, err
}

// Stat describes a file or a folder.
func (s *redisFiles) Stat(ctx context.Context, key string) (info certmagic.KeyInfo, err error) {
	err = s.use(func(f *redis.Files) error {
		i, err := f.Stat(ctx, key)
		info = certmagic.KeyInfo{Key: i.Name, Modified: i.Modified, Size: i.Size, IsTerminal: i.Terminal}
		return err
	})
	return info, err
}

// Lock takes a lock and waits for it if need be.
func (s *redisFiles) Lock(ctx context.Context, name string) error {
	return s.use(func(f *redis.Files) error {
		err := f.Lock(ctx, name)
		if err == nil {
			s.holds(name)
		}
		return err
	})
}

// TryLock takes a lock that is free.
func (s *redisFiles) TryLock(ctx context.Context, name string) (ok bool, err error) {
	err = s.use(func(f *redis.Files) error {
		if ok, err = f.TryLock(ctx, name); ok {
			s.holds(name)
		}
		return err
	})
	return ok, err
}

// holds makes the holder of a lock a guest until it gives the lock back. The caller is one already.
func (s *redisFiles) holds(name string) {
	s.guests.enter()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[name] = true
}

// Unlock gives a lock back.
func (s *redisFiles) Unlock(ctx context.Context, name string) error {
	return s.use(func(f *redis.Files) error {
		s.mu.Lock()
		held := s.held[name]
		delete(s.held, name)
		s.mu.Unlock()
		if held {
			defer s.guests.leave()
		}
		return f.Unlock(ctx, name)
	})
}

// RenewLockLease is asked before each attempt to get a certificate, and after it certmagic looks whether another node got one
// meanwhile. A lock that was lost, because Redis was away, is therefore taken again if it is free; else this attempt must not
// begin. The lease is our own: it is renewed while the lock is held, and a dead node's lock falls free soon, however long the
// attempt may take.
func (s *redisFiles) RenewLockLease(ctx context.Context, name string, _ time.Duration) error {
	return s.use(func(f *redis.Files) error { return f.Resume(ctx, name) })
}
