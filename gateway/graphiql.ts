const welcome = `# Slapgraph. Put the token into "Headers" below, as
#   { "authorization": "Bearer <token>" }
# At the first start the administrator's token is written to the file
# admin-token in the data dir (npm start prints where).

query Computers {
  computers(first: 10) {
    edges {
      node {
        reference
        liveness
        partitions(first: 10) {
          edges { node { key state health instance { title } } }
        }
      }
    }
  }
}

subscription Watch {
  partitionStateChanged {
    cursor
    change { from to cause partition { key health lastBang { message } } }
  }
}
`;

/** The page a browser gets. It carries all that it needs, so it works without the internet; what it asks takes a token as always. */
export function graphiqlPage(): Promise<string> {
  page ??= render();
  return page;
}

/** Nine megabytes with all scripts inside, so it is loaded and rendered once, when first asked for. */
let page: Promise<string> | undefined;

async function render(): Promise<string> {
  const { renderGraphiQL } = await import("@graphql-yoga/render-graphiql");
  return renderGraphiQL({
    title: "Slapgraph",
    defaultQuery: welcome,
    headers: JSON.stringify({ authorization: "Bearer " }),
    shouldPersistHeaders: true,
    subscriptionsProtocol: "SSE",
    endpoint: "/graphql",
  } as never) as string;
}
