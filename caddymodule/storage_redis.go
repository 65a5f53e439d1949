package caddymodule

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/certmagic"
)

// RedisStorage keeps in Redis what Caddy keeps itself: certificates, their private keys, accounts at certificate authorities. All
// nodes share them and take turns at renewing. Everything is sealed with the master key; names of hosts are hashed. The server is
// told as for the store, and the same connections serve both.
type RedisStorage struct {
	RedisServer
	// Folder of the master key, `master.key`, which all nodes must have. Default: "anteroom" under Caddy's data directory, as
	// for the app.
	Directory string `json:"directory,omitempty"`
	masterSite

	files *redisFiles
}

// CaddyModule returns the module's information.
func (*RedisStorage) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.storage.anteroom_redis", New: func() caddy.Module { return new(RedisStorage) }}
}

// UnmarshalCaddyfile reads the global option
//
//	storage anteroom_redis URL
//	storage anteroom_redis {
//		directory DIR   # left out: "anteroom" under Caddy's data directory
//		master …        # as in the option `anteroom`: the same lines
//		…               # the lines of `store redis`
//	}
func (r *RedisStorage) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // "anteroom_redis"
	return r.unmarshal(d, func(word string) (bool, error) {
		if word == "master" {
			return true, r.masterLine(d)
		}
		if word != "directory" {
			return false, nil
		}
		if err := oneArg(d, &r.Directory); err != nil {
			return true, err
		}
		if !filepath.IsAbs(r.Directory) {
			return true, d.Errf("directory %q: write an absolute path", r.Directory)
		}
		return true, nil
	})
}

// Provision resolves the configuration and takes a reference to the connections. It asks no server.
func (r *RedisStorage) Provision(ctx caddy.Context) error {
	if r.Directory == "" {
		r.Directory = filepath.Join(caddy.AppDataDir(), "anteroom")
	}
	logger := ctx.Slogger()
	conn, err := r.config(logger)
	if err != nil {
		return err
	}
	if err := r.provisionMaster(ctx); err != nil {
		return fmt.Errorf("%s: %w", r.where(), err)
	}
	ref, err := takeRedis(conn, r.Directory)
	if err != nil {
		return err
	}
	r.files = &redisFiles{
		ref: ref, client: ref.key, logger: logger, master: r.from().Key(r.Directory), held: map[string]bool{},
		name:  fmt.Sprintf("anteroom_redis %s %s", strings.Join(conn.Addresses, ","), conn.Prefix),
		place: (&Redis{conn: conn}).Name(""),
		connect: func() (redisClient, func() error, error) {
			m, err := r.open(r.Directory)
			if err != nil {
				return redisClient{}, nil, err
			}
			return openRedis(conn, m)
		},
	}
	return nil
}

// CertMagicStorage returns the storage. It connects when it is first used: a config that is only validated touches no network.
func (r *RedisStorage) CertMagicStorage() (certmagic.Storage, error) {
	if r.files == nil {
		return nil, errors.New("the storage has not been provisioned")
	}
	return r.files, nil
}

// Cleanup gives the connections back when the last call has returned and the last lock was given back.
func (r *RedisStorage) Cleanup() error {
	if r.files != nil { // nil when Provision failed
		r.files.close()
	}
	return nil
}

var (
	_ caddy.StorageConverter     = (*RedisStorage)(nil)
	_ certmagic.Storage          = (*redisFiles)(nil)
	_ certmagic.TryLocker        = (*redisFiles)(nil)
	_ certmagic.LockLeaseRenewer = (*redisFiles)(nil)
	_ fmt.Stringer               = (*redisFiles)(nil)
)
