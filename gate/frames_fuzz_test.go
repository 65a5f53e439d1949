package gate

import "testing"

// FuzzFrames: however the bytes of an application arrive in pieces, the follower stands at the same place; and it never says that
// a frame of ours can be sent after a close frame or inside of a frame.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x02hi\x88\x00\x81"), 3)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		var whole, pieces frames
		whole.see(b)
		for len(b) > 0 {
			n := 1 + (cut&0xff)%len(b)
			pieces.see(b[:n])
			b = b[n:]
		}
		if whole != pieces {
			t.Errorf("in one piece %+v, in several %+v", whole, pieces)
		}
		if whole.between() && (whole.left != 0 || whole.stage == lost) {
			t.Errorf("a frame is said to fit at %+v", whole)
		}
	})
}
