import { QueryClient, QueryClientProvider } from '@tanstack/react-query'
import { RouterProvider } from '@tanstack/react-router'
import { StrictMode } from 'react'
import { createRoot } from 'react-dom/client'
import { Refused } from './api.ts'
import { router } from './router.tsx'
import { applyTheme } from './theme.ts'

applyTheme()

const queries = new QueryClient({
  defaultOptions: {
    queries: {
      // A refusal stays one; a server that restarts comes back.
      retry: (times, error) => !(error instanceof Refused) && times < 3,
      refetchOnWindowFocus: false,
    },
  },
})

createRoot(document.getElementById('root')!).render(
  <StrictMode>
    <QueryClientProvider client={queries}>
      <RouterProvider router={router} />
    </QueryClientProvider>
  </StrictMode>,
)
