package audit

import (
	"context"
	"syscall"
	"testing"
	"time"
)

var benchEvent = Event{
	Ref: "ABCDEFGHJK", Kind: "request", Source: "hospital", Subject: "248289761001", Name: "doctor", Roles: []string{"doctor", "staff"},
	Session: "c2Vzc2lvbi1sYWJl", Site: "medrecords.hospital.example", Method: "GET", Route: "/patients/{user}/*", Decision: "allowed",
	Rule: "allow role doctor (Caddyfile:12)", Client: "192.0.2.17",
}

// cpu returns the CPU time that this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRecord measures one caller after the other, and many at once as behind a
// busy proxy. The target is below 5 µs of CPU an event under load.
func BenchmarkRecord(b *testing.B) {
	for _, c := range []struct {
		name    string
		callers int
	}{{"one", 0}, {"many", 64}} {
		b.Run(c.name, func(b *testing.B) {
			l, err := Open(Config{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			b.ReportAllocs()
			before := cpu()
			if c.callers == 0 {
				for b.Loop() {
					if err := l.Record(context.Background(), benchEvent); err != nil {
						b.Fatal(err)
					}
				}
			} else {
				b.SetParallelism(c.callers)
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if err := l.Record(context.Background(), benchEvent); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
			b.ReportMetric(float64(cpu()-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	var buf []byte
	for b.Loop() {
		buf = appendEvent(buf[:0], &benchEvent)
	}
}
