/** The socket of a request that asks for an upgrade, before another protocol takes the socket over. */

/** The used part of a socket of Node: `net.Socket`, `tls.TLSSocket` or another `Duplex`. */
export interface UpgradeSocket {
  /** Whether the socket is closed. */
  readonly destroyed: boolean;
  /** Calls `listener` at each event of that name. */
  on(event: 'close' | 'end' | 'error' | 'finish', listener: () => void): unknown;
  /** Removes the listener. */
  removeListener(event: 'close' | 'end' | 'error' | 'finish', listener: () => void): unknown;
  /** Sends the last data, and ends the connection in this direction. */
  end(data: string | Uint8Array): unknown;
  /** Closes the connection. */
  destroy(): unknown;
}

/**
 * Destroys the socket as soon as its client ends the connection, until the returned function is called. Node's server
 * keeps a connection open that its client has ended. No data is taken: it belongs to the protocol that takes the socket
 * over. While data is buffered, the end stays unnoticed.
 */
export function watchForEnd(socket: UpgradeSocket): () => void {
  const destroy = (): void => void socket.destroy();
  socket.on('end', destroy);
  // Without a listener, an error of the socket would end the process.
  socket.on('error', destroy);
  return () => {
    socket.removeListener('end', destroy);
    socket.removeListener('error', destroy);
  };
}

/** Calls `listener` when the socket is closed. The returned function removes the listener. */
export function onSocketClose(socket: UpgradeSocket, listener: () => void): () => void {
  socket.on('close', listener);
  return () => socket.removeListener('close', listener);
}
