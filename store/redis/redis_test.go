package redis_test

import (
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
	"github.com/anteroom-proxy/anteroom/store/redis"
	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
	"github.com/anteroom-proxy/anteroom/store/storetest"
)

// TestConformance runs the suite in the three forms, over TLS and as a user with the
// least rights.
func TestConformance(t *testing.T) {
	eachForm(t, func(t *testing.T, server *redistest.Server) {
		var last redis.Config
		storetest.Run(t, storetest.Suite{
			Open: func(t *testing.T, now func() time.Time) store.Store {
				last = config(t, server)
				last.Now = now
				return patient(t, last)
			},
			Join: func(t *testing.T, now func() time.Time) store.Store {
				c := last
				c.Now = now
				return patient(t, c)
			},
			Trim: func(t *testing.T, s store.Store) store.Store {
				server.Do("XTRIM", last.Prefix+":{feed}:s", "MAXLEN", "0")
				return s
			},
		})
	})
}
