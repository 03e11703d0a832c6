# MinIO from the pinned source, by the Go module proxy: its vendor's images are no longer kept up.
FROM golang:1.26-bookworm AS minio-build
RUN CGO_ENABLED=0 GOBIN=/out go install github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c

FROM node:24-bookworm-slim AS minio
COPY --from=minio-build /out/minio /usr/local/bin/minio
RUN mkdir /blobs && chown node:node /blobs
USER node
VOLUME /blobs
EXPOSE 9000
CMD ["minio", "server", "--address", ":9000", "/blobs"]

FROM node:24-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --no-audit --no-fund
COPY . .
# What only builds and tests is left out of the image, and the Node that npm brings, which the image has.
RUN npm run build && npm prune --omit=dev && rm -rf node_modules/node-linux-* node_modules/.bin/node

FROM node:24-bookworm-slim AS slapgraph
ENV NODE_ENV=production
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/bin bin
COPY --from=build /app/dist dist
COPY --from=build /app/schema schema
RUN mkdir /data && chown node:node /data
USER node
VOLUME /data
CMD ["node", "bin/slapgraph.js", "start"]
